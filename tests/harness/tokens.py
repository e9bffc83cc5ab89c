"""The tokens of the tests: each is derived from its name, so they protect nothing.

No token is a word of the code, since generated requests contain such words.
"""

from hashlib import sha256

# The scopes of each token; `some` is valid only for the model `three`.
SCOPES = {
    "all": ["predict", "admin", "metrics"],
    "predict": ["predict"],
    "admin": ["admin"],
    "metrics": ["metrics"],
    "some": ["predict"],
}


def put(folder):
    """Write a tokens file with all tokens, and return its path."""
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
    """Return the token with that name."""
    return f"{name}.{sha256(name.encode()).hexdigest()}"


def header(name):
    """Return the headers with a token."""
    return {"Authorization": f"Bearer {secret(name)}"}


def bring(client, name):
    """Add a token to all requests of a Flask test client, and return the client."""
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret(name)}"
    return client
