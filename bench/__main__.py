"""`python -m bench [name …]`: measure, and print the tables of README."""

import sys

from bench import application, durability, minilake, prompts, vectors, workspace
from bench.report import table

BENCHMARKS = {
    "workspace": workspace.run,
    "application": application.run,
    "minilake": minilake.run,
    "prompts": prompts.run,
    "vectors": vectors.run,
    "durability": durability.run,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks, all without a name."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        print(f"\n### {name}\n\n{table(BENCHMARKS[name]())}")


if __name__ == "__main__":
    main(sys.argv[1:])
