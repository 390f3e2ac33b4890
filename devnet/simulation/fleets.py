"""The kinds of node that a scenario can name."""

from devnet.simulation.agreement_node import AgreementFleet
from devnet.simulation.node import Fleet
from devnet.simulation.scenario import Scenario

KINDS = ("agreement", "full")


def fleet_for(scenario: Scenario) -> Fleet:
    """The fleet of a scenario. Errors: ValueError for a kind that does not exist."""
    if scenario.nodes == "agreement":
        return AgreementFleet(
            scenario.powers,
            signatures=scenario.signatures,
            timing=scenario.timing,
            epoch_ms=scenario.epoch_ms,
        )
    if scenario.nodes == "full":
        # Imported here: the agreement alone needs neither SQLite nor the exchange.
        from devnet.simulation.full_fleet import FullFleet

        return FullFleet(
            scenario.powers,
            seed=scenario.seed,
            signatures=scenario.signatures,
            timing=scenario.timing,
            epoch_ms=scenario.epoch_ms,
        )
    raise ValueError(f"{scenario.nodes!r} is no kind of node; choose one of {', '.join(KINDS)}")
