"""What models do, in Databricks' names, and the paths of OpenAI's API for it."""

CHAT, EMBEDDINGS, COMPLETIONS = "llm/v1/chat", "llm/v1/embeddings", "llm/v1/completions"
RESPONSES_AGENT = "agent/v1/responses"
PATHS = {CHAT: "/chat/completions", EMBEDDINGS: "/embeddings", COMPLETIONS: "/completions"}
NEEDED = {CHAT: "messages", EMBEDDINGS: "input", COMPLETIONS: "prompt"}
"""The field without which a request of the task means nothing."""
AGENT_CHATS = ("agent/v1/chat", "agent/v2/chat")
"""MLflow's ChatModel and ChatAgent: they answer chat requests by themselves."""
