"""The engine for any endpoint that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp."""
