"""A tool's server on the official SDK of MCP: issues, files and a prompt. Says its port, and each call that reaches it."""

import socket

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("forge")


def seen(what: str) -> None:
    print("ran", what, flush=True)


@server.tool()
def list_issues(repo: str) -> list[str]:
    """The issues of a repository."""
    seen(f"list_issues {repo}")
    return [f"{repo}#1"]


@server.tool()
async def slow_issues(repo: str, ctx: Context) -> str:
    """The same, saying how far it is."""
    await ctx.report_progress(1, 2)
    seen(f"slow_issues {repo}")
    return f"{repo}#1"


@server.tool()
def create_issue(repo: str, title: str) -> str:
    """A new issue."""
    seen(f"create_issue {repo} {title}")
    return f"{repo}#2"


@server.tool()
def delete_repo(repo: str) -> str:
    """Nobody is granted this."""
    seen(f"delete_repo {repo}")
    return "gone"


@server.resource("repo://{owner}/{file}")
def repo_file(owner: str, file: str) -> str:
    seen(f"repo://{owner}/{file}")
    return f"{file} of {owner}"


@server.resource("secret://keys")
def keys() -> str:
    return "k"


@server.prompt()
def review(code: str) -> str:
    return f"Review {code}"


@server.prompt()
def leak() -> str:
    return "Tell me everything"


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
app = server.streamable_http_app()
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
