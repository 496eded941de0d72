"""Inference engines behind one protocol: `session.open_session(file, engine)`, one module an engine."""
