"""The heads of a spec: kinds, targets, labels and weights."""

import pytest

from tests.training.spec_text import X_KIND, X_LABELS, Y_KIND, edit


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            X_KIND,
            f"{X_KIND}\nlabel = 1",
            "heads.x.label: no such key (did you mean 'labels'?)",
            id="unknown key of a head",
        ),
        pytest.param(
            X_KIND,
            "",
            "heads.x.kind: missing; expected one of binary, multiclass, multilabel, regression",
            id="head without a kind",
        ),
        pytest.param(
            X_KIND,
            'kind = "multi"',
            "heads.x.kind: expected one of binary, multiclass, multilabel, regression,"
            " received \"multi\" (did you mean 'multilabel'?)",
            id="head of an unknown kind",
        ),
        pytest.param(
            'target = "a"',
            "",
            "heads.x.target: missing; expected the name of an input (its target) or"
            " input.column, or an array of them",
            id="head without a target",
        ),
        pytest.param(
            'target = "a"',
            'target = "a."',
            'heads.x.target: expected input.column, received "a."',
            id="target with a dot and no column",
        ),
        pytest.param(
            'target = "a"',
            'target = ["a.p", "a.q"]',
            "heads.x.target: expected one target, as the head is binary, received 2",
            id="two targets of a binary head",
        ),
        pytest.param(
            'target = "b"',
            'target = ["a", "b"]',
            "heads.y.target: expected targets of one file, received a.csv and b.csv",
            id="targets of two files",
        ),
        pytest.param(
            X_LABELS,
            'labels = ["no", "no"]',
            'heads.x.labels: "no" is there 2 times\n'
            "heads.x.labels: expected 2 labels, as the head is binary, received 1",
            id="a label twice",
        ),
        pytest.param(
            X_LABELS,
            "labels = [0, 1]",
            'heads.x.labels: expected an array of texts, as ["no", "yes"], received [0, 1]',
            id="labels that are numbers",
        ),
        pytest.param(
            X_LABELS,
            'labels = ["a", "b", "c"]',
            "heads.x.labels: expected 2 labels, as the head is binary, received 3",
            id="three labels of a binary head",
        ),
        pytest.param(
            f'{X_KIND}\ntarget = "a"\n{X_LABELS}',
            'kind = "multiclass"\ntarget = "a"\nlabels = ["one"]',
            "heads.x.labels: expected 2 labels or more, received 1",
            id="one label of a multiclass head",
        ),
        pytest.param(
            f'{X_KIND}\ntarget = "a"',
            'kind = "multilabel"\ntarget = ["a.p", "a.q", "a.r"]',
            "heads.x.labels: expected one label for each of the 3 targets, received 2",
            id="labels that do not cover the targets",
        ),
        pytest.param(
            Y_KIND,
            f'{Y_KIND}\nlabels = ["p"]',
            "heads.y.labels: a regression head has none",
            id="labels of a regression",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nthreshold = 1",
            "heads.x.threshold: expected a number between 0 and 1, received 1",
            id="threshold of one",
        ),
        pytest.param(
            Y_KIND,
            f"{Y_KIND}\nthreshold = 0.5",
            "heads.y.threshold: only binary and multilabel heads have one; this is regression",
            id="threshold of a regression",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nloss_weight = 0",
            "heads.x.loss_weight: expected a number over 0, received 0",
            id="weight of nothing",
        ),
        pytest.param(
            X_KIND,
            f'{X_KIND}\nDense = {{ units = 2, name = "d" }}',
            "heads.x.Dense.name: is the head's own; remove it\n"
            "heads.x.Dense.units: is set by the kind and its labels; remove it",
            id="head with units of its own",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nclass_weights = {{ noo = 1, yes = -1 }}",
            "heads.x.class_weights.noo: no such label (did you mean 'no'?)\n"
            "heads.x.class_weights.yes: expected a number, 0 or more, received -1",
            id="weights of unknown and negative",
        ),
        pytest.param(
            X_KIND,
            f'{X_KIND}\nclass_weights = "even"',
            'heads.x.class_weights: expected "balanced" or a table of numbers by label,'
            ' received "even"',
            id="weights by an unknown word",
        ),
        pytest.param(
            Y_KIND,
            f'{Y_KIND}\nclass_weights = "balanced"',
            "heads.y.class_weights: only binary and multiclass heads have them; this is regression",
            id="class weights of a regression",
        ),
        pytest.param(
            Y_KIND,
            f'{Y_KIND}\nstandardize = "yes"',
            'heads.y.standardize: expected true or false, received "yes"',
            id="standardize that is no flag",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nstandardize = true",
            "heads.x.standardize: only regression heads have it; this is binary",
            id="standardized head of another kind",
        ),
        pytest.param(
            Y_KIND,
            f'{Y_KIND}\nstandardize = true\nloss = "mean_squared_logarithmic_error"',
            "heads.y.standardize: the loss 'mean_squared_logarithmic_error' is for values over 0,"
            " which standardised ones are not; remove one of them",
            id="standardized head with a loss of positive values",
        ),
        pytest.param(
            Y_KIND,
            f'{Y_KIND}\nstandardize = true\nDense = {{ activation = "relu" }}',
            'heads.y.standardize: the head\'s Dense has the activation "relu", which limits the'
            " answers to a part of what they can be; remove one of them",
            id="standardized head with an activation",
        ),
        pytest.param(
            X_KIND,
            f"{X_KIND}\nmissing = true",
            'heads.x.missing: expected "skip", or no such key, received true',
            id="another way with missing targets",
        ),
        pytest.param(
            X_KIND,
            f'{X_KIND}\nclass_weights = "balanced"\nloss = "tversky"',
            "heads.x.class_weights: the loss 'tversky' is of a batch as a whole, in which no class"
            " weighs more; remove one of them",
            id="class weights in a loss of a batch",
        ),
        pytest.param(
            X_KIND,
            f'{X_KIND}\nmissing = "skip"\nloss = "Dice"',
            "heads.x.missing: the loss 'Dice' is of a batch as a whole, from which no row can be"
            " left out; remove one of them",
            id="missing targets with a loss of whole batches",
        ),
    ],
)
def test_a_wrong_head_is_refused_with_its_key(problems_of, old, new, expected):
    """Every mistake is reported with its key, expected and received value, and the way out."""
    assert problems_of(edit(old, new)) == expected.splitlines()
