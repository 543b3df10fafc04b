"""The plan of the house that `test_house` holds the code against."""

from pathlib import Path

ROOT = Path(__file__).parent.parent

# From the ground up: a module imports only modules that stand before it.
FLOORS = (
    "core",
    "settings",
    "workspace",
    "tracking",
    "catalog",
    "config",
    "telemetry",
    "serving",
    "prompt_text",
    "prompt_registry",
    "prompts",
    "memory",
    "agents",
    "router",
    "fraud.data",
    "fraud.agents",
    "fraud.graph",
    "api",
    "a2a",
    "mcp_server",
    "context",
    "deploy",
    "jobs",
    "gate_statistics",
    "evaluation",
    "spending",
    "trials",
    "studies",
    "fraud.examples",
    "feedback",
    "textual_gradient",
    "dspy_program",
    "optimize_dspy",
    "optimize_textgrad",
    "live",
    "promotion",
    "fraud.model",
    "monitoring",
    "batch",
    "verify",
    "fraud.demo",
    "prompt_commands",
    "cli",
)

# Modules without a notebook, each with its reason.
PLAIN_FILES = {
    "__init__": "the version and nothing else",
    "fraud.__init__": "marks the package of the worked example",
    "tracking": "MLflow's client behind our errors: plumbing of `evaluation` and `studies`",
    "prompt_registry": "what `prompts` is kept in: MLflow's registry, a volume, a table; told in 07_prompts",
    "_modidx": "nbdev's index of what it generated",
}


def module_name(path: Path) -> str:
    """`fraud.data` for lib/fraud/data.py."""
    return ".".join(path.relative_to(ROOT / "lib").with_suffix("").parts)


def modules() -> dict[str, Path]:
    """Every module of lib by its name."""
    return {module_name(path): path for path in sorted((ROOT / "lib").rglob("*.py"))}
