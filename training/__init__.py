"""The offline job: a spec and its CSVs become `models/<name>/<version>/model.onnx`.

    spec.load + data.load ─ rows.split ─ build ─ fit ─ convert ─ sign ─ verify ─ publish

Needs the `train` extra (TensorFlow); `spec`, `errors` and `cli` import without it, and `data` needs
pandas alone.
"""
