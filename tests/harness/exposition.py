"""A page of metrics as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families


def samples(text):
    """Every sample by its name and its labels' values in the order of their names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
