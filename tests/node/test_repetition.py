"""What happens often is told at once, then counted: no flood, and nothing forgotten."""

from node.repetition import KINDS_ITEMS_MAX, SUMMARY_S_MIN, Repeated


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Lines(list):
    """A logger that keeps what is told: structlog's own follow what other tests configured."""

    def warning(self, event, **details):
        self.append({"event": event, **details})


def fresh(clock=None):
    """What is told often, and the lines that were told."""
    lines = Lines()
    return Repeated("refused", logger=lines, clock=clock or Clock()), lines


def test_the_first_is_told_at_once_with_its_details():
    refusals, lines = fresh()
    refusals.tell("E304", validator=2)
    assert lines == [{"event": "refused", "validator": 2}]


def test_what_follows_soon_is_counted_and_told_with_the_next():
    clock = Clock()
    refusals, lines = fresh(clock)
    for number in range(1_000):
        refusals.tell("E304", number=number)
    clock.now_s += SUMMARY_S_MIN
    refusals.tell("E304", number=1_000)
    assert lines == [
        {"event": "refused", "number": 0},
        {"event": "refused", "number": 1_000, "more": 999},
    ]
    assert (refusals.statistics().seen, refusals.statistics().told) == (1_001, 2)


def test_kinds_do_not_hide_each_other():
    refusals, lines = fresh()
    for kind in ("E304", "E308", "E304", "E308"):
        refusals.tell(kind, code=kind)
    assert [line["code"] for line in lines] == ["E304", "E308"]


def test_a_rare_event_is_always_told_and_counts_nothing():
    clock = Clock()
    refusals, lines = fresh(clock)
    for _ in range(3):
        refusals.tell("E304")
        clock.now_s += SUMMARY_S_MIN
    assert lines == [{"event": "refused"}] * 3


def test_what_was_counted_before_it_stopped_is_told_when_it_is_due():
    clock = Clock()
    refusals, lines = fresh(clock)
    for _ in range(5):
        refusals.tell("E304")
    lines.clear()
    clock.now_s += SUMMARY_S_MIN / 2
    refusals.tell_due()
    assert lines == []
    clock.now_s += SUMMARY_S_MIN / 2
    refusals.tell_due()
    clock.now_s += SUMMARY_S_MIN
    refusals.tell_due()
    assert lines == [{"event": "refused", "kind": "E304", "more": 4}]


def test_what_was_counted_last_is_told_at_the_end_once():
    refusals, lines = fresh()
    for _ in range(5):
        refusals.tell("E304")
    assert refusals.statistics().waiting == 4
    lines.clear()
    refusals.tell_rest()
    refusals.tell_rest()
    assert lines == [{"event": "refused", "kind": "E304", "more": 4}]


def test_kinds_without_end_share_one_line():
    refusals, lines = fresh()
    for kind in range(KINDS_ITEMS_MAX * 3):
        refusals.tell(kind)
    assert len(lines) == KINDS_ITEMS_MAX + 1
    assert refusals.statistics().waiting == KINDS_ITEMS_MAX * 2 - 1
