"""The offline job that turns a spec and its CSV files into `models/<name>/<version>/model.onnx`.

    spec.load + data.load ─ rows.divide ─ build ─ fit ─ convert ─ sign ─ verify ─ publish

The package needs the `train` extra (TensorFlow).  `spec`, `errors` and `cli` can be imported
without it; `data` needs pandas only.
"""
