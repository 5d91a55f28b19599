"""The whole life of a Machine or NodeClaim: launch, registration, initialization, drain, termination."""
