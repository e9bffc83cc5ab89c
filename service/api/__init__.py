"""The pages of the Flask app by protocol, and their authorization."""
