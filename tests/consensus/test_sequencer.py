"""The sequencer gives what a few lines that count everything anew would give."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.committee import Committee, Validator
from consensus.sequencer import BATCH_ITEMS_MAX, Sequencer
from primitives.hashing import digest
from tests.consensus.world import NETWORK

NAMES = [bytes([number]) * 32 for number in range(12)]


def plain_median(values, powers):
    ordered = sorted(values)
    total, seen = sum(powers[i] for _, i in ordered), 0
    for value, index in ordered:
        seen += 2 * powers[index]
        if seen >= total:
            return value
    raise AssertionError


def plain_batches(blocks, powers):
    """All links so far, read again for every block; quadratic, and nothing to get wrong."""
    queue, seen_ready, out = [], set(), []
    for count in range(1, len(blocks) + 1):
        places = [{} for _ in powers]
        for links in blocks[:count]:
            for author, items in links:
                for item in items:
                    places[author].setdefault(item, len(places[author]))
        ready = [
            name
            for name in NAMES
            if name not in seen_ready
            and 3 * sum(p for p, seen in zip(powers, places, strict=True) if name in seen)
            > 2 * sum(powers)
        ]
        key = {}
        for name in ready:
            ranks = []
            for author, seen in enumerate(places):
                listed = sorted((n for n in ready if n in seen), key=seen.get)
                ranks.append((listed.index(name) if name in seen else len(ready), author))
            tie = digest("outcry/sequence-tie/1", NETWORK, block_id(count - 1), name)
            key[name] = (plain_median(ranks, powers), tie)
        seen_ready.update(ready)
        queue += sorted(ready, key=key.get)
        out.append(tuple(queue[:BATCH_ITEMS_MAX]))
        del queue[:BATCH_ITEMS_MAX]
    return out


def block_id(number):
    return b"block %d" % number


@st.composite
def histories(draw):
    powers = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    authors = st.integers(0, len(powers) - 1)
    links = st.tuples(authors, st.lists(st.sampled_from(NAMES), max_size=6))
    return powers, draw(st.lists(st.lists(links, max_size=6), min_size=1, max_size=6))


@given(histories())
@settings(max_examples=200)
def test_batches_are_those_of_the_plain_count(history):
    powers, blocks = history
    committee = Committee(NETWORK, 1, [Validator(bytes(32), power) for power in powers])
    sequencer = Sequencer(committee)
    batches = []
    for number, links in enumerate(blocks):
        wanted = [SimpleNamespace(author=a, items=items) for a, items in links]
        voted_on = sequencer.non_blank(wanted)
        block = SimpleNamespace(links=wanted, cid=block_id(number), height=number + 1)
        batch = sequencer.commit(block)
        new = {item for link in wanted for item in link.items}
        assert new & set(batch) <= set(voted_on), "what is executed was at hand at the vote"
        batches.append(batch)
    assert batches == plain_batches(blocks, powers)


@given(histories())
@settings(max_examples=50)
def test_a_small_batch_leaves_the_rest_in_its_place(history):
    powers, blocks = history
    committee = Committee(NETWORK, 1, [Validator(bytes(32), power) for power in powers])

    def run(batch_max):
        sequencer, out = Sequencer(committee), []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("consensus.sequencer.BATCH_ITEMS_MAX", batch_max)
            for number, links in enumerate([*blocks, *[[]] * len(NAMES)]):
                made = [SimpleNamespace(author=a, items=items) for a, items in links]
                block = SimpleNamespace(links=made, cid=block_id(number), height=number + 1)
                batch = sequencer.commit(block)
                assert len(batch) <= batch_max
                out += batch
            assert not sequencer.has_backlog
        return out

    assert run(1) == run(BATCH_ITEMS_MAX)
