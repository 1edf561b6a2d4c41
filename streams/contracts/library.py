"""The contracts that come with lumiwatch, by name. Knows no event."""

from pathlib import Path
from typing import Final

from streams.contracts.contract import Contract, load_contract
from streams.errors import ContractError

FOLDER: Final = Path(__file__).parent


def shipped_contracts() -> dict[str, Contract]:
    """Return every contract that comes with lumiwatch, by name."""
    return {path.stem: load_contract(path) for path in sorted(FOLDER.glob("*.toml"))}


def find_contract(name_or_path: str) -> Contract:
    """Read a contract file, or the shipped contract of that name.

    A file wins over a shipped contract of the same name.

    Raises
    ------
    ContractError
        There is neither, or the file is no contract.
    """
    path = Path(name_or_path)
    shipped = FOLDER / f"{name_or_path}.toml"
    if path.exists() or path.suffix == ".toml" or len(path.parts) != 1:
        return load_contract(path)
    if not shipped.is_file():
        known = ", ".join(sorted(one.stem for one in FOLDER.glob("*.toml")))
        raise ContractError(f"{name_or_path}: neither a file nor a shipped contract: known are {known}")
    return load_contract(shipped)
