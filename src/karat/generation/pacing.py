"""Finds by trying how many calls at a time and how many a second a server takes. Knows no call, no timer.

A server refuses ("too many", HTTP 429) because too many calls are in the air, or because too many came in a
short time. Which, is told apart by whether calls with as many others in the air were answered lately.
All times are seconds of one clock; `began` is when a call started.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# ------------------------------------------------------------------------- how many at a time
_FIRST = 16  # calls at a time in the first moments
_LISTEN = 0.06  # seconds; that long the server is listened to before there are more
_DOUBLING = 0.08  # seconds, in which the number of calls doubles at the start
_FEWEST = 3  # less cannot be told from a server that wants calls apart; the pace finds that
_MANY_SLOW = 0.25  # of the calls that timed out, from which the window is narrowed
_APART = 0.05  # seconds, the most by which starts are kept apart
_TRIAL = 1.0  # seconds between two trials where answers take longer
_MOST_PATIENCE = 64.0  # windows of answers between two trials of one call more

# ------------------------------------------------------------------------- how many a second
_ROW = 3  # refusals one after the other, with which the server is believed to refuse all
_ALMOST_ALL = 0.8  # of a row of calls
_FIRST_PROBE = 0.01  # seconds after the last refusal
_NEXT_PROBE = 0.35  # of the time since then
_BEYOND = 0.25  # seconds from the last refusal until a probe may go beyond the window
_LONGEST_PROBE = 5.0  # seconds between two probes
_BELIEVED = 0.25  # seconds without an answer, after which Retry-After holds for all
_LEAST = 8.0  # calls a second, the least first guess: to guess too much costs three refusals
_BOLD = 100.0  # calls a second, up to which the time is believed in which a bucket filled with one call
_SLACK = 0.01  # seconds by which a call that comes late is made up for
_CUT, _SMALL_CUT, _SEARCH_CUT = 0.95, 0.985, 0.6
_FEW = 0.06  # of the calls refused: the price of staying at the edge
_GROWTH = 0.0004  # of the pace, a call: with the small cut, 3 % of the calls are refused
_LEAST_GROWTH, _MOST_GROWTH = 0.015, 0.15  # of the pace, a second
_RECOVERY = 3.0  # of what is missing to the pace at which calls were refused, a second
_SEARCH = 6.0  # of the pace, a second, while it is not known
_CARE, _CAREFUL = 4.0, 0.3  # by which the search slows down at a refusal, and the speed at which it ends
_GAIN, _FASTEST = 0.025, 2.0  # of the growth, when nothing was refused for long
_STEP = 1.5  # the most by which one call may raise the pace
_QUIET = 48  # calls (or one second) without a refusal, after which growth grows
_ENOUGH = 16  # calls by which a rate is measured


@dataclass
class Burst:
    """Calls that started at the same moment: nobody knows in what order they arrive.

    first: how many calls were in the air when the first of them started; others: when the last did.
    refused: how many of them were.
    """

    began: float
    first: int = 0
    others: int = 0
    refused: int = 0


class Window:
    """How many calls at a time."""

    def __init__(self, most: int, adaptive: bool) -> None:
        self.most = most
        self.limit = min(most, _FIRST) if adaptive else most
        self._opening = self.limit < most
        self._size, self._since = float(self.limit), -1.0
        self._proved = [0, 0]  # the most others with which a call was answered: in this period, in the last
        self._turned = 0.0
        self._latency = self._slow = 0.0
        self._at_a_time = 0.7  # belief that refusals come from too many at a time
        self._judged = -math.inf
        # what began in this time had refused calls beside it in the air, whose refusal had not come yet
        self._doubt = (-math.inf, -math.inf)
        self._count, self._patience, self._step = 0, 1.0, 1
        self._cut, self._raised, self._raised_at = -math.inf, False, 0.0

    def restart(self, now: float) -> None:
        """Begin again with few calls: the server has just come back."""
        if self.most > _FIRST and self.limit > _FIRST:
            self.limit, self._size, self._since, self._opening = _FIRST, float(_FIRST), now + _LISTEN, True

    def apart(self) -> float:
        """Seconds between two starts: what comes in bursts is refused by a bucket as if too many flew."""
        if self._opening or self.limit >= self.most:
            return 0.0
        apart = min(_APART, 0.5 * self._latency / self.limit)
        return apart if apart > 0.001 else 0.0  # no timer rings so often

    def widen(self, now: float, inflight: int) -> float:
        """The window is full: let it grow if it is still opening; seconds until there is room."""
        if not self._opening:
            return self._try(now, inflight)
        if self._since < 0:
            self._since = now + _LISTEN
        if now > self._since:
            self._size = min(self._size * 2 ** ((now - self._since) / _DOUBLING), float(self.most))
            self._since = now
        self.limit = int(self._size)
        if self.limit >= self.most:
            self._opening = False
        if self.limit > inflight:
            return 0.0
        if not self._opening:
            return math.inf
        return self._since - now + _DOUBLING * math.log2((inflight + 1.001) / self._size)

    def answered(self, now: float, began: float, burst: Burst) -> None:
        """A call was answered."""
        others = burst.first
        if others > self._proved[0] and not self._doubt[0] < began <= self._doubt[1]:
            self._proved[0] = others
        if now - self._turned > max(1.0, 2 * self._latency):
            self._proved, self._turned = [0, self._proved[0]], now
        self._slow *= 0.98
        self._latency += (0.05 if self._latency else 1.0) * (now - began - self._latency)
        if self.limit < self.most and not self._opening:
            self._count += 1
            if self._count >= self.limit * self._patience:
                self._raise(now)

    def _try(self, now: float, inflight: int) -> float:
        """Answers may take minutes, refusals do not: now and then one more is tried before any answer."""
        if self.limit >= self.most:
            return math.inf
        due = self._raised_at + self._patience * _TRIAL
        if now < due:
            return due - now
        if self._raised:
            self._proved[0] = max(self._proved[0], self.limit - 1)
        self._raise(now)
        return 0.0 if self.limit > inflight else _TRIAL

    def _raise(self, now: float) -> None:
        if self._raised:  # and nothing was refused since
            self._patience = max(1.0, self._patience / 2)
        self._raised, self._raised_at, self._count = True, now, 0
        self.limit = min(self.most, self.limit + self._step)
        self._step *= 2

    def refused(self, now: float, began: float, burst: Burst) -> bool:
        """The server said "too many"; whether this is for too many at a time."""
        self._opening = False
        burst.refused += 1
        self._doubt = (self._doubt[0] if began <= self._doubt[1] else burst.began - 1e-9, now)
        if began >= self._judged:  # what began before is the same news
            self._judged = now
            proved = max(self._proved)
            decided = self._at_a_time < 0.5
            likely = burst.others > proved if decided else burst.others >= 0.9 * proved
            self._at_a_time += (0.1 if decided else 0.5) * (likely - self._at_a_time)
            if self._at_a_time < 0.5:
                self.limit = self.most
                self._at_a_time = self._at_a_time if decided else 0.2
            if self._raised and began >= self._raised_at:
                self._patience = min(_MOST_PATIENCE, 2 * self._patience)
        if self._at_a_time < 0.5:
            return False
        # those of the burst that were not refused are in the air
        left = min(self.limit, burst.others + 1 - burst.refused)
        if left < _FEWEST:
            self._at_a_time, self.limit = 0.2, self.most
            return False
        self.limit = left
        self._raised, self._raised_at = False, now
        self._count, self._step, self._cut = 0, 1, now
        return True

    def proved(self, others: int) -> bool:
        """Whether calls with more others in the air were answered lately."""
        return others < 0.9 * max(self._proved)

    def disprove(self) -> None:
        """A call was let in beyond the limit: refusals do not come from too many at a time."""
        self._at_a_time, self.limit = -1.0, self.most

    def slow(self, now: float, began: float) -> None:
        """A call timed out; when many do, the server has perhaps too much to do."""
        self._slow += 0.02 * (1 - self._slow)
        if self._slow > _MANY_SLOW and began >= self._cut and not self._opening:
            self._cut = now
            self.limit = max(min(self.limit, self.most // 4 + 1), self.limit - self.limit // 16)
            self._count, self._step = 0, 1


class Pace:
    """How many calls a second. Of no effect until the first refusal.

    Once several calls in a row are refused, the server refuses all (its window is used up, its bucket empty):
    only probes go out, in growing distance. The first that is let in tells the rate: that of a bucket, by how
    long it took to fill with one call; or that of a window, by all that was let in until the window ended.
    If that is not enough to go by, the pace is searched for: it grows fast, and at each refusal slower. From
    there on it grows slowly and is cut at refusals, so that it stays at the edge; a single one costs little,
    for a bucket of one call refuses what comes a millisecond too early. Each of these numbers comes from
    calls that were sent and not refused; so it does not matter how long answers take.
    """

    def __init__(self, window: Window) -> None:
        self.window = window
        self.rate: float | None = None
        self.counting = False
        self.held = False
        self.answered_at = -math.inf
        self._next = 0.0
        # refusals in a row, by the number of the call
        self._low, self._high, self._row, self._low_began = 0, 0, 0, 0.0
        self._run = (0, 0, 0)
        self._delay = 0.05  # seconds that a refusal takes: running mean
        self._refused_at = self._cut_at = -math.inf
        self._speed, self._grown = 0.0, 0.0  # by which the pace grows a second while it is not known
        self._paced_at = -math.inf  # when the first pace was set
        self._found = False  # whether a pace was measured
        self._edge = 0.0  # the pace at which calls were refused last
        self._mark = 0.0  # when the last call before the hold was refused
        self.by_rate = False
        self._probes: dict[int, tuple[float, int]] = {}  # when each began, and with how many others
        self._probe_at = self._until = 0.0
        # time, calls and refusals so far, at two moments: the rate is measured from the earlier one on
        self._from, self._then = [-1.0, 0, 0], [-1.0, 0, 0]
        self._freed = [math.inf, 0, 0]  # the same as of the last probe that was let in

    @property
    def active(self) -> bool:
        """Whether calls may have to wait."""
        return self.held or self.rate is not None

    @property
    def beyond(self) -> float:
        """When a probe may go beyond the window; if it is let in, calls at a time are not what is limited."""
        return self._mark + _BEYOND

    def turn(self, now: float, last: int) -> None:
        """To be called about once a second: what is measured shall not be old."""
        if self._from[0] < 0:
            self._measure_from(now, last)
        elif last - self._then[1] >= _ENOUGH and not self.held:
            self._from, self._then = self._then, [now, last, 0]

    def wait(self, now: float, inflight: int) -> float:
        """Seconds until the next call may start beside `inflight` others."""
        if self.held and not self._let_go(now):
            # what one call is told to wait, all wait, if nobody is let in
            alone = inflight <= len(self._probes) and now - self.answered_at >= _BELIEVED
            return max(0.0, (max(self._probe_at, self._until) if alone else self._probe_at) - now)
        return 0.0 if self.rate is None else max(0.0, self._next - now)

    def start(self, now: float, serial: int, others: int) -> None:
        """A call starts with `others` in the air."""
        if self.held:
            self._probes[serial] = now, others
            gap = max(_FIRST_PROBE, _NEXT_PROBE * (now - self._mark))
            self._probe_at = now + min(gap, _LONGEST_PROBE)
        elif self.rate is not None:
            self._grow(now)
            self._next = max(self._next, now - _SLACK) + 1 / self.rate

    def _grow(self, now: float) -> None:
        assert self.rate is not None
        unit = max(1.0, _QUIET / self.rate)
        quiet = (now - self._refused_at) / unit
        growth = self._speed
        if growth < _CAREFUL:
            growth = min(max(_LEAST_GROWTH, _GROWTH * self.rate), _MOST_GROWTH)
            growth += _RECOVERY * max(0.0, min(self._edge / self.rate - 1.05, 0.3))
        if quiet > 1:
            growth = max(growth, min(_FASTEST, growth + _GAIN * 4.0 ** min(20.0, quiet - 1)))
            if growth > _CAREFUL:
                self._speed, self._found = max(self._speed, growth), True
        passed, self._grown = min(now - self._grown, 2 / self.rate), now
        self.rate *= min(_STEP, math.exp(growth * passed))

    def idle(self, now: float) -> None:
        """Calls wait for other things than the pace: it is dropped when nothing was refused for long."""
        if self.rate is None:
            return
        if now - self._refused_at > max(2.0, 2 * _QUIET / self.rate):
            self.rate, self._speed, self._found, self.counting = None, 0.0, False, self.held

    def answered(self, serial: int) -> None:
        """A call was answered."""
        if serial >= self._low:
            self._row = 0
        if self.held and serial in self._probes:
            self._release(serial, *self._probes[serial])

    def probed(self, serial: int) -> bool:
        """Whether this call is a probe."""
        return serial in self._probes

    def lost(self, serial: int) -> None:
        """A call was taken back before it started."""
        self._probes.pop(serial, None)

    def refused(
        self, now: float, began: float, serial: int, after: float | None, last: int, *, by_rate: bool
    ) -> None:
        """The server said "too many"; `last`: number of the latest call; `by_rate`: too many a second."""
        self.counting = True
        self.by_rate = by_rate
        self._delay += 0.1 * (max(0.0, now - began) - self._delay)
        for base in (self._from, self._then, self._freed):
            base[2] += serial > base[1]
        self._refused_at = now
        if after is not None and after > 0:
            # whole seconds are rounded up by most: it may be any time within the last of them
            until = now + after - float(after).is_integer()
            self._until = until if self._until <= now else min(until, self._until)
        if self.held:
            if self._probes.pop(serial, None) is None:
                self._mark = max(self._mark, began)
            return
        self._count_row(now, began, serial)
        if self._run[2] >= _ROW or self._row >= max(_ROW, _ALMOST_ALL * (self._high - self._low + 1)):
            self._hold(now, began, last)
        elif by_rate and began >= self._cut_at:
            self._slow_down(now, last)
        elif by_rate and self._row == 2 and not self._speed and self.rate is not None:
            self.rate *= _CUT  # not by chance

    def _count_row(self, now: float, began: float, serial: int) -> None:
        if self._row == 0:
            self._run = (0, 0, 0)
            self._low, self._high, self._low_began = serial, serial, began
        self._row += 1
        self._low, self._high = min(self._low, serial), max(self._high, serial)
        self._low_began = min(self._low_began, began)
        run = self._run
        self._run = run = (
            (min(run[0], serial), max(run[1], serial), run[2] + 1) if run[2] else (serial, serial, 1)
        )
        if run[2] < _ALMOST_ALL * (run[1] - run[0] + 1):
            self._run = (serial, serial, 1)
        missing = self._row < _ALMOST_ALL * (self._high - self._low + 1)
        if missing and now - self._low_began > 1.5 * self._delay + 0.01:  # they were not refused
            self._low, self._high, self._row, self._low_began = serial, serial, 1, began

    def _slow_down(self, now: float, last: int) -> None:
        self._cut_at = now + self._delay / 2
        if self.rate is None:
            self.rate, self._grown = max(0.8 * self._measured(now, last), 1e-3), now
            self._paced_at, self._speed = now, _SEARCH
            self._next = now + self._delay  # what is in the air tells more
            return
        if self._speed:  # back to the pace at which the refused call began, and on with more care
            first = self._speed > _SEARCH / _CARE
            self.rate *= max(_SEARCH_CUT, math.exp(-self._speed * self._delay))
            if first and self._freed[0] < now:  # of this, what was let in since nothing was left
                least = min(self.rate, self._measured(now, last, self._freed))
                self.rate = math.sqrt(least * self.rate)
            if first:
                self._measure_from(now, last)
            self._speed = self._careful(self._speed)
        self._edge = self.rate
        _, serial, refused = self._from
        calls = last - serial - self.rate * self._delay
        few = refused <= 1 + _FEW * calls
        self.rate *= _SMALL_CUT if few else _CUT
        if not few and calls >= _ENOUGH / 2:
            self.rate = min(self.rate, max(1.02 * self._measured(now, last), 0.88 * self.rate))
            self._measure_from(now, last)

    @staticmethod
    def _careful(speed: float) -> float:
        return speed / _CARE if speed > _CAREFUL else 0.0

    def _measure_from(self, now: float, last: int) -> None:
        self._from, self._then = [now, last, 0], [now, last, 0]

    def _measured(self, now: float, last: int, base: list[float] | None = None) -> float:
        """Calls a second that were sent and not refused; of those in the air as many are as of the others."""
        since, calls, refused = base or self._from
        passed = max(0.001, now - since)
        lost = refused / (passed - self._delay) if passed > 2 * self._delay else refused / passed
        return max(1 / passed, (last - calls) / passed - lost)

    def _hold(self, now: float, began: float, last: int) -> None:
        """The server refuses all: only probes go out, until one is not refused."""
        self.held, self._mark = True, began
        if began < self._paced_at:  # it was not this pace that was too fast
            self.rate, self._speed = None, 0.0
        self._probes.clear()
        self._probe_at = max(now, began + _FIRST_PROBE)

    def _let_go(self, now: float) -> bool:
        """Whether a probe was not refused in good time: then it was let in."""
        serial, (began, others) = next(iter(self._probes.items()), (0, (now, 0)))
        if now - began <= 3 * self._delay + 0.02:
            return False
        self._release(serial, began, others)
        return True

    def _release(self, serial: int, began: float, others: int) -> None:
        """The server takes calls again, as of a probe that began then."""
        late = False  # it could have been let in earlier
        if not self.by_rate and others >= self.window.limit:
            self.window.disprove()
            self.by_rate = late = True
        self.held, self._row = False, 0
        usual, one = self._measured(began, serial), 1 / max(0.001, began - self._mark)
        found = max(self._let_in(began, serial, base) for base in (self._freed, self._from))
        if self.rate is not None and found:
            self.rate = self._edge = min(_CUT * self.rate, found)
            self._speed = _SEARCH / _CARE if self._speed and not self._found else 0.0
            self._found = True
        elif self.rate is not None and (self._found or not self._speed):
            self.rate = self._edge = min(_CUT * self.rate, max(usual, one, 0.7 * self.rate))
            self._speed = 0.0
        elif self.by_rate:
            # most windows are not shorter than a second, and most buckets not smaller
            usual *= min(1.2, began - self._from[0])
            guess = max(usual, min(one, max(2 * usual, _BOLD)))
            if self.rate is not None:
                guess = min(guess, self.rate)
            self.rate = max(guess, _LEAST)
            self._speed = _SEARCH if one > usual or guess < _LEAST or late else 0.0
        elif self.rate is None:
            self.rate, self._speed = max(usual, _LEAST), _SEARCH
        self._grown = self._cut_at = began
        self._next = began if self.rate is None else began + 1 / self.rate
        # the bucket was empty then: what comes from now on is the rate
        self._measure_from(began, serial)
        self._freed = [began, serial, 0]
        self._probes.clear()

    @staticmethod
    def _let_in(now: float, last: int, base: list[float]) -> float:
        """Calls a second that were let in from `base` until nothing was left; 0: too few to tell."""
        since, calls, refused = base
        let_in = last - calls - refused
        return let_in / (now - since) if let_in >= _ENOUGH and since < now else 0.0
