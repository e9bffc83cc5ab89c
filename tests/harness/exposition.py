"""The samples of a metrics page, as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families


def samples(text):
    """Return all samples by name and label values, which are sorted by label name."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
