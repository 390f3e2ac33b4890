"""Compiles the contracts: `python -m settlement.compile` rewrites `settlement/artifacts/`.

Vyper is needed here and in tests only, so it is imported inside. Its output is deterministic
for one version, one EVM version and one source.
"""

from pathlib import Path

import structlog

from primitives.durable import replace_file
from settlement import artifacts
from settlement.artifacts import Artifact
from settlement.faults import CompilerMissing

log = structlog.get_logger(__name__)

COMPILER_VERSION = "0.4.3"
EVM_VERSION = "prague"
ROOM = Path(__file__).parent


def compile_contract(source: Path) -> Artifact:
    """The artifact of one `.vy` file.

    Errors: `CompilerMissing`; vyper's own exceptions for a source that does not compile.
    """
    try:
        import vyper
        from vyper.compiler import compile_code
        from vyper.compiler.settings import Settings
    except ImportError:
        raise CompilerMissing("vyper is not installed") from None
    if vyper.__version__.split("+")[0] != COMPILER_VERSION:
        raise CompilerMissing(f"vyper is {vyper.__version__}, not {COMPILER_VERSION}")
    # A relative path keeps the place of the checkout out of whatever the compiler records.
    output = compile_code(
        source.read_text(encoding="utf-8"),
        contract_path=source.name,
        output_formats=["abi", "bytecode"],
        settings=Settings(evm_version=EVM_VERSION),
    )
    return Artifact(
        contract=source.stem,
        compiler=f"vyper {COMPILER_VERSION}",
        evm_version=EVM_VERSION,
        abi=output["abi"],
        bytecode=output["bytecode"],
    )


def main() -> None:
    """Compile every contract of the package and replace its artifact."""
    for name in artifacts.CONTRACTS:
        artifact = compile_contract(ROOM / "contracts" / f"{name}.vy")
        target = ROOM / artifacts.DIRECTORY / f"{name}.json"
        replace_file(target, artifacts.encode(artifact))
        log.info("contract_compiled", contract=name, code_bytes=len(artifact.bytecode) // 2 - 1)


if __name__ == "__main__":
    main()
