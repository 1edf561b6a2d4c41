"""The references of a site: proposed, approved, retired. Knows who approved, not whether they may.

A window is judged by the approved reference of its own package, else by the one approved last for its
model.
"""

from datetime import datetime

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from streams.errors import ReferenceProblem
from streams.judging.reference import Reference, decode_reference, encode_reference
from streams.store.database import read_session, write_session
from streams.store.records import ReferenceRow, ReferenceState


def propose_reference(engine: Engine, reference: Reference, now: datetime) -> ReferenceRow:
    """Store a reference for approval; the same one again changes nothing."""
    with write_session(engine, lock=reference.model) as session:
        return _stored(session, reference, now)


def approve_reference(engine: Engine, reference_id: str, approved_by: str, now: datetime) -> ReferenceRow:
    """Put a stored reference in use, in place of another one of the same model and package.

    Parameters
    ----------
    reference_id
        Its id, or the beginning of it as long as that is unique.
    approved_by
        Name of the operator.

    Raises
    ------
    ReferenceProblem
        If there is no such reference.
    """
    model = find_reference(engine, reference_id).model
    with write_session(engine, lock=model) as session:
        return _approved(session, _find(session, reference_id), approved_by, now)


def register_reference(engine: Engine, reference: Reference, approved_by: str, now: datetime) -> ReferenceRow:
    """Store a reference and put it in use at once: for a successor whose response an operator approved."""
    with write_session(engine, lock=reference.model) as session:
        return _approved(session, _stored(session, reference, now), approved_by, now)


def retire_reference(engine: Engine, reference_id: str, retired_by: str, now: datetime) -> ReferenceRow:
    """Take a reference out of use. Raises `ReferenceProblem` if there is no such reference."""
    model = find_reference(engine, reference_id).model
    with write_session(engine, lock=model) as session:
        return _retired(session, _find(session, reference_id), retired_by, now)


def find_reference(engine: Engine, reference_id: str) -> ReferenceRow:
    """Return the record of an id, or of a unique beginning of one; `ReferenceProblem` if there is none."""
    with read_session(engine) as session:
        return _find(session, reference_id)


def list_references(engine: Engine, model: str | None = None) -> list[ReferenceRow]:
    """Return the records of all references, or of one model's, the oldest first."""
    with read_session(engine) as session:
        query = select(ReferenceRow).order_by(col(ReferenceRow.created_at), col(ReferenceRow.id))
        if model is not None:
            query = query.where(ReferenceRow.model == model)
        return list(session.exec(query))


def load_reference(engine: Engine, reference_id: str) -> Reference:
    """Return a stored reference with its counts; `ReferenceProblem` if there is none."""
    return decode_reference(find_reference(engine, reference_id).content)


def approved_reference_ids(session: Session, model: str, package: str) -> list[str]:
    """Return the ids of the references that may judge windows of a package, the most fitting first.

    The approved one of that package, then those of other packages of the model, the last approved first.
    """
    approved = (
        select(ReferenceRow.id)
        .where(ReferenceRow.model == model, ReferenceRow.state == ReferenceState.APPROVED)
        .order_by(col(ReferenceRow.approved_at).desc(), col(ReferenceRow.id))
    )
    own = session.exec(approved.where(ReferenceRow.package == package)).all()
    return [*own, *session.exec(approved.where(ReferenceRow.package != package))]


def approved_reference(engine: Engine, model: str, package: str) -> Reference | None:
    """Return the reference that judges windows of a package, with its counts, or None."""
    with read_session(engine) as session:
        found = approved_reference_ids(session, model, package)
        row = session.get(ReferenceRow, found[0]) if found else None
        return decode_reference(row.content) if row is not None else None


def _stored(session: Session, reference: Reference, now: datetime) -> ReferenceRow:
    row = session.get(ReferenceRow, reference.id)
    if row is None:
        row = ReferenceRow(
            id=reference.id,
            model=reference.model,
            package=reference.package,
            contract_hash=reference.contract_hash,
            parent_id=reference.parent_id,
            built_from=reference.header.built_from,
            n_events=reference.counts.n_events,
            n_lumisections=reference.header.n_lumisections,
            content=encode_reference(reference),
            created_at=now,
        )
        session.add(row)
    return row


def _approved(session: Session, row: ReferenceRow, approved_by: str, now: datetime) -> ReferenceRow:
    others = select(ReferenceRow).where(
        ReferenceRow.model == row.model,
        ReferenceRow.package == row.package,
        ReferenceRow.state == ReferenceState.APPROVED,
        ReferenceRow.id != row.id,
    )
    for other in session.exec(others):
        _retired(session, other, approved_by, now)
    if row.state != ReferenceState.APPROVED:
        row.state = ReferenceState.APPROVED
        row.approved_by, row.approved_at = approved_by, now
        row.retired_by, row.retired_at = None, None
        session.add(row)
    return row


def _retired(session: Session, row: ReferenceRow, retired_by: str, now: datetime) -> ReferenceRow:
    if row.state != ReferenceState.RETIRED:
        row.state = ReferenceState.RETIRED
        row.retired_by, row.retired_at = retired_by, now
        session.add(row)
    return row


def _find(session: Session, reference_id: str) -> ReferenceRow:
    found = session.exec(
        select(ReferenceRow).where(col(ReferenceRow.id).startswith(reference_id, autoescape=True)).limit(2)
    ).all()
    if len(found) != 1:
        known = "no" if not found else "more than one"
        raise ReferenceProblem(
            f"{known} reference begins with '{reference_id}': list them, and give more of its id"
        )
    return found[0]
