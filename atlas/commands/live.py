"""doctor --live: findings about peers, one line each; how what they answer may differ from what Atlas takes them to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from atlas.commands.common import Found
from atlas.errors import AtlasError


class Differs(Exception):
    """Something is not as Atlas takes it to be, and Atlas works all the same."""


class Broken(Differs):
    """Something is not as Atlas takes it to be, and something of Atlas does not hold by it."""


@asynccontextmanager
async def finding(what: str, found: Found) -> AsyncIterator[Callable[[str], None]]:
    """One finding: what was seen, or how it differs, or what went wrong."""
    from httpx import HTTPError
    from openai import OpenAIError

    seen: list[str] = []
    try:
        async with asyncio.timeout(90):
            yield seen.append
    except Differs as error:
        found("problem" if isinstance(error, Broken) else "warning", what, str(error))
    except TimeoutError:
        found("problem", what, "no answer within 90 s")
    except (OpenAIError, HTTPError, AtlasError) as error:
        found("problem", what, f"{type(error).__name__}: {error}")
    except (ValueError, AttributeError, TypeError, IndexError) as error:
        # the clients build their types of whatever came
        found("problem", what, f"the answer cannot be read ({type(error).__name__}: {error})")
    else:
        found("ok", what, "; ".join(seen))


def want(condition: object, otherwise: str) -> None:
    """Raises Differs unless the condition holds."""
    if not condition:
        raise Differs(otherwise)


def need(condition: object, otherwise: str) -> None:
    """Raises Broken unless the condition holds."""
    if not condition:
        raise Broken(otherwise)
