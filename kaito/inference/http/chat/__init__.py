"""`POST /chat`, as KAITO's own server answered it until version 0.8."""

from kaito.inference.http.chat.route import router

__all__ = ["router"]
