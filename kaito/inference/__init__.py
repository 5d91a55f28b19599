"""The server in the inference image: answers `POST /chat` and OpenAI's routes from one model and its adapters.

    python -m kaito.inference --model microsoft/Phi-3-mini-4k-instruct --port 5000

It needs the `inference` extra and nothing of the operator.
"""
