"""Tokens for tests: each is made of its name, so they protect nothing.

No word of the code is one, since what makes up requests tries those.
"""

from hashlib import sha256

# By name, what each is for; `some` is for the model `three` alone.
SCOPES = {
    "all": ["predict", "admin", "metrics"],
    "predict": ["predict"],
    "admin": ["admin"],
    "metrics": ["metrics"],
    "some": ["predict"],
}


def put(folder):
    """Write the file of them all; its path."""
    tables = []
    for name, scopes in SCOPES.items():
        digest = sha256(secret(name).encode()).hexdigest()
        table = f'[[tokens]]\nname = "{name}"\nhash = "sha256:{digest}"\nscopes = {scopes}\n'
        tables.append(table + ('models = ["three"]\n' if name == "some" else ""))
    file = folder / "tokens.toml"
    file.write_text("\n".join(tables))
    file.chmod(0o600)
    return file


def secret(name):
    """The token of that name."""
    return f"{name}.{sha256(name.encode()).hexdigest()}"


def header(name):
    """The header that brings one."""
    return {"Authorization": f"Bearer {secret(name)}"}


def bring(client, name):
    """A client of the Flask app whose requests all bring one; the client."""
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret(name)}"
    return client
