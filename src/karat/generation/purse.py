"""The purse: caps in dollars and tokens, for what is spent and what is in the air. Knows no provider."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from karat.errors import BadSetting
from karat.generation.base import Price, Response


class Purse(Protocol):
    """Lends money before a call, and takes back what the call did not need."""

    async def reserve(self, price: Price) -> str:
        """Set aside the most that a call can cost; returns why not when a cap is reached, else nothing.

        Waits where what flies now may cost less than feared.
        """

    def settle(self, price: Price, tokens: int, usd: float) -> None:
        """The call ended: what was set aside is free again, and this was spent."""

    def reused(self, response: Response) -> None:
        """Count an answer that was paid for by an earlier run of the same plan."""

    def spend(self, tokens: int, usd: float) -> None:
        """Count what an earlier run of the same plan lost."""


class OwnPurse:
    """A purse for one process. Caps None: none."""

    def __init__(
        self, max_usd: float | None, max_tokens: int | None, *, usd: float = 0.0, tokens: int = 0
    ) -> None:
        for name, value in (("max_usd", max_usd), ("max_tokens", max_tokens)):
            if value is not None and value < 0:
                raise BadSetting(f"{name}={value} is negative; give a cap of 0 or more, or none")
        self.max_usd, self.max_tokens = max_usd, max_tokens
        self.usd, self.tokens = usd, tokens
        self._flying_usd, self._flying_tokens, self._flying = 0.0, 0, 0
        self._waiting: list[asyncio.Future[None]] = []

    def spend(self, tokens: int, usd: float) -> None:
        """Count what was spent."""
        self.tokens += tokens
        self.usd += usd

    def reused(self, response: Response) -> None:
        """Count an answer of the journal against the caps."""
        self.spend(response.tokens_in + response.tokens_out, response.cost_usd)

    def fits(self, price: Price) -> bool:
        """True when a call can be paid for even if all that flies costs the most it can."""
        if self.max_usd is not None:
            if math.isnan(price.usd):
                return False
            # A thousandth of a cent is rounding, not overspending.
            if self.usd + self._flying_usd + price.usd > self.max_usd + 1e-9:
                return False
        return self.max_tokens is None or self.tokens + self._flying_tokens + price.tokens <= self.max_tokens

    async def reserve(self, price: Price) -> str:
        """Set aside the price of a call, or say why it cannot be paid."""
        while True:
            reply = self.take(price)
            if reply is None:
                return ""
            if reply:
                return reply
            change = asyncio.get_running_loop().create_future()
            self._waiting.append(change)
            try:
                await change
            except asyncio.CancelledError:
                if change in self._waiting:
                    self._waiting.remove(change)
                raise

    def take(self, price: Price) -> str | None:
        """Set aside at once (None), or say why not; empty: what flies may yet leave something."""
        if not self.fits(price):
            return "" if self._flying else self._reason(price)
        self._flying += 1
        self._flying_usd += 0.0 if math.isnan(price.usd) else price.usd
        self._flying_tokens += price.tokens
        return None

    def settle(self, price: Price, tokens: int, usd: float) -> None:
        """Free what was set aside and count what was spent."""
        self._flying -= 1
        self._flying_usd -= 0.0 if math.isnan(price.usd) else price.usd
        self._flying_tokens -= price.tokens
        if not self._flying:
            self._flying_usd = 0.0  # rounding must not gather
        self.spend(tokens, usd)
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def _reason(self, price: Price) -> str:
        if self.max_usd is not None and math.isnan(price.usd):
            return (
                f"max_usd={self.max_usd:g} cannot be held: no price is known for this model; give price_in "
                "and price_out to the provider (USD per million tokens), or cap tokens with max_tokens"
            )
        if self.max_usd is not None and self.usd + price.usd > self.max_usd:
            cap, used, dear = f"max_usd={self.max_usd:g}", f"{self.usd:.4g} USD", f"{price.usd:.2g} USD"
        else:
            cap, used, dear = f"max_tokens={self.max_tokens}", f"{self.tokens:,} tokens", f"{price.tokens:,}"
        return f"{cap} is reached: {used} spent, and the next call may take {dear}"
