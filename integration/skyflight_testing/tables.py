"""Descriptions of tables to ingest: what would otherwise be a TOML file beside each data file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Scheme:
    """How a database is to cut the sky, as the `[scheme]` section of its first director."""

    name: str
    toml: str


def healpix(row_limit: int = 4_000, min_order: int = 1, max_order: int = 8, overlap_arcsec: float = 60) -> Scheme:
    """Adaptive cells. The small row limit makes a small catalog into hundreds of chunks."""
    body = f"min_order = {min_order}\nmax_order = {max_order}\nrow_limit = {row_limit}\noverlap_arcsec = {overlap_arcsec:.3f}"
    return Scheme("healpix", f'kind = "healpix"\n{body}\n')


def stripes(count: int = 18, sub_stripes: int = 6, overlap_deg: float = 0.01667) -> Scheme:
    """Declination stripes; 18 of them make some 400 chunks of the whole sky."""
    return Scheme("stripes", f'kind = "stripes"\nstripes = {count}\nsub_stripes = {sub_stripes}\noverlap_deg = {overlap_deg}\n')


@dataclass(frozen=True)
class Table:
    """A table and the files it is made of."""

    name: str
    kind: str
    files: tuple[Path, ...]
    id: str | None = None
    ra: str | None = None
    dec: str | None = None
    wrap_ra: bool = False
    director: str | None = None
    director_key: str | None = None
    second_director: str | None = None
    second_director_key: str | None = None
    #: Further TOML: top-level keys.
    keys: str = ""
    #: Further TOML: sections such as `[csv]` or `[columns.x]`.
    sections: str = ""
    scheme: Scheme | None = None

    def toml(self) -> str:
        """The description as the binary reads it."""
        lines = [f'name = "{self.name}"', f'kind = "{self.kind}"']
        for key in ("id", "director", "director_key", "second_director", "second_director_key"):
            value = getattr(self, key)
            if value is not None:
                lines.append(f'{key} = "{value}"')
        if self.keys:
            lines.append(self.keys)
        if self.ra is not None:
            lines += ["[position]", f'ra = "{self.ra}"', f'dec = "{self.dec}"']
            if self.wrap_ra:
                lines.append("wrap_ra = true")
        if self.scheme is not None and self.kind == "director":
            lines += ["[scheme]", self.scheme.toml]
        if self.sections:
            lines.append(self.sections)
        return "\n".join(lines) + "\n"

    def cut_by(self, scheme: Scheme) -> Table:
        """The same table in a database of this scheme."""
        return replace(self, scheme=scheme)


def director(name: str, file: Path, id: str, ra: str = "ra", dec: str = "dec", wrap_ra: bool = False) -> Table:
    return Table(name, "director", (file,), id=id, ra=ra, dec=dec, wrap_ra=wrap_ra)


def child(name: str, file: Path, of: str, key: str, id: str | None = None, ra: str | None = None, dec: str | None = None) -> Table:
    return Table(name, "child", (file,), id=id, ra=ra, dec=dec, director=of, director_key=key)


def companion(name: str, file: Path, of: str, key: str) -> Table:
    return Table(name, "companion", (file,), director=of, director_key=key)


def match(name: str, file: Path, first: tuple[str, str], second: tuple[str, str]) -> Table:
    """Pairs of two directors, each given with the column that holds its id."""
    return Table(
        name, "match", (file,), director=first[0], director_key=first[1], second_director=second[0], second_director_key=second[1]
    )


def replicated(name: str, file: Path, id: str | None = None) -> Table:
    return Table(name, "replicated", (file,), id=id)
