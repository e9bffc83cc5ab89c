"""Small tables and the facts, choices and specs that they become."""

from training import spec as specs
from training.init import features
from training.init.plan import Request, plan
from training.init.profile import profile
from training.init.text import spec_text
from training.table import read


def rows(header, lines):
    """Return the text of a table."""
    return "\n".join([header, *lines]) + "\n"


def profiled(folder, text):
    """Return the facts of each column of a table, by name."""
    path = folder / "facts.csv"
    path.write_text(text, "utf-8")
    table = read(path)
    return {name: profile(table.column(name)) for name in table.columns}


def column(folder, cells, name="c"):
    """Return the facts of one column with these cells."""
    text = rows(f"n,{name}", [f"{number},{cell}" for number, cell in enumerate(cells)])
    return profiled(folder, text)[name]


def choice(folder, cells, name="c"):
    """Return the use of one column with these cells, beside no target."""
    return features.choose(column(folder, cells, name), [])


def spec(folder, *heads, key=None, name=None, **tables):
    """Write tables (name=text) and their spec; return the spec as training loads it, and its text.

    Everything that `init` writes has to be a spec.
    """
    for title, text in tables.items():
        (folder / f"{title}.csv").write_text(text, "utf-8")
    files = tuple(folder / f"{title}.csv" for title in tables)
    text = spec_text(plan(Request(files, heads, key, name), folder), heads)
    path = folder / "written.toml"
    path.write_text(text, "utf-8")
    return specs.load(path), text


def penguins(count=60):
    """Return a table of birds: their island and bill say the species, and roughly the mass."""
    lines = []
    for row in range(count):
        kind = row % 3
        bill = 35 + 6 * kind + row * 7 % 11 / 4
        island = ("Biscoe", "Dream", "Torgersen")[(row + row // 7) % 3]
        mass = 3000 + 400 * kind + row * 13 % 17 * 20
        sex = "" if row % 20 == 7 else ("female", "male")[row * 13 % 17 > 8]
        lines.append(f"{('Adelie', 'Gentoo', 'Chinstrap')[kind]},{island},{bill},{mass},{sex}")
    return rows("species,island,bill_length_mm,body_mass_g,sex", lines)
