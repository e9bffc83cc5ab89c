"""What is known of ONNX's operators: whether each row of a batch goes through them by itself.

An operator stands here with the rule that follows the batch axis through it (`rules`), and the
rule with its reason.  What does not stand here is not known, which is no proof of anything.  An
entry that is wrong would let one caller's rows into another's answer: `test_operators.py`
runs random graphs of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.inference.independence import learned, pictures, products, rules, selections, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.inference.independence.values import Node, Value

    Rule = Callable[[Node], list[Value]]

# Operator sets whose meaning the table has; ONNX Runtime itself takes none before the first.
VERSIONS = range(7, 27)
ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"


class Entry(NamedTuple):
    """Operators of one domain that treat the batch axis alike, and why they do."""

    domain: str
    names: str
    rule: Rule
    reason: str


ENTRIES = (
    Entry(
        "",
        "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr "
        "BitwiseXor Cast Ceil Celu Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater "
        "GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log "
        "Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal RegexFullMatch Relu Round Selu "
        "Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt StringConcat Sub Sum Swish Tan Tanh "
        "ThresholdedRelu Where Xor",
        rules.each_place,
        "a value is made of the values at its own place",
    ),
    Entry(
        MICROSOFT,
        "BiasGelu FastGelu Gelu QuickGelu",
        rules.each_place,
        "a value is made of the values at its own place",
    ),
    Entry("", "Clip", rules.same, "a value is made of the one at its place, between constants"),
    Entry("", "CastLike", rules.like, "a value is made of the one at its place"),
    Entry(
        "",
        "QuantizeLinear DequantizeLinear",
        rules.quantize,
        "a value is made of the one at its place, by scales that are constants",
    ),
    Entry("", "Dropout", rules.dropout, "nothing is dropped at inference"),
    Entry(
        "",
        "Softmax LogSoftmax Hardmax",
        rules.softmax,
        "values along one axis meet; from operator set 13 on, all axes after it too",
    ),
    Entry("", "LpNormalization", rules.along_last, "values along one axis meet"),
    Entry(
        "",
        "LayerNormalization RMSNormalization",
        rules.layer_normalization,
        "values along the last axes meet",
    ),
    Entry("", "CumSum CumProd", rules.cumulative, "values along one axis meet"),
    Entry(
        "",
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
        "ReduceSum ReduceSumSquare",
        rules.reduce,
        "values along the axes that are named meet, and along all where none is",
    ),
    Entry("", "ArgMax ArgMin", rules.reduce_one, "values along one axis meet"),
    Entry("", "MeanVarianceNormalization", rules.mean_variance, "values along some axes meet"),
    Entry("", "TopK", rules.top, "values along one axis meet"),
    Entry("", "Transpose", shapes.transpose, "the batch axis is another one"),
    Entry("", "Reshape", shapes.reshape, "rows stay whole if their values are not cut elsewhere"),
    Entry("", "Flatten", shapes.flatten, "rows stay whole if their values are not cut elsewhere"),
    Entry("", "Squeeze", shapes.squeeze, "axes of length 1 go, and the batch must not be one"),
    Entry("", "Unsqueeze", shapes.unsqueeze, "axes of length 1 come"),
    Entry("", "Concat", selections.concat, "tensors are put behind each other along one axis"),
    Entry("", "Split", selections.split, "one axis is cut"),
    Entry("", "Slice", selections.cut, "some axes are cut"),
    Entry("", "Gather", selections.gather, "places are looked up along one axis"),
    Entry("", "GatherElements", selections.gather_elements, "places are looked up along one axis"),
    Entry("", "GatherND", selections.gather_nd, "places are looked up along the first axes"),
    Entry("", "Expand", shapes.expand, "axes of length 1 are repeated"),
    Entry("", "ConstantOfShape", shapes.fill, "every row is the same constant"),
    Entry("", "Tile", selections.tile, "axes are repeated"),
    Entry("", "Pad", selections.pad, "axes get longer"),
    Entry("", "OneHot", selections.one_hot, "a value is made into a list"),
    Entry("", "Trilu", selections.triangle, "the last two axes meet"),
    Entry("", "MatMul", products.matmul, "the last axis of the left and the last but one meet"),
    Entry(MICROSOFT, "FusedMatMul", products.fused_matmul, "as MatMul"),
    Entry("", "MatMulInteger", products.integer_matmul, "as MatMul, with one zero point for all"),
    Entry("", "QLinearMatMul", products.quantized_matmul, "as MatMul, with one scale for all"),
    Entry("", "Gemm", products.gemm, "the second axis of the left and the first of the right meet"),
    Entry("", "Einsum", products.einsum, "letters that the result has not are added up"),
    Entry(
        "",
        "Conv ConvInteger QLinearConv",
        pictures.convolution,
        "each entry of the first axis is a picture of its own",
    ),
    Entry(
        "", "AveragePool LpPool MaxPool", pictures.pool, "each entry of the first axis by itself"
    ),
    Entry(
        "",
        "GlobalAveragePool GlobalLpPool GlobalMaxPool",
        pictures.global_pool,
        "each entry of the first axis by itself",
    ),
    Entry(
        "",
        "ConvTranspose DepthToSpace SpaceToDepth",
        pictures.rows_first,
        "each entry of the first axis by itself",
    ),
    Entry(
        "",
        "GroupNormalization InstanceNormalization LRN",
        pictures.keeps_rows_first,
        "each entry of the first axis by itself",
    ),
    Entry(
        "",
        "BatchNormalization",
        pictures.batch_normalization,
        "at inference, by statistics that are constants; in training, by those of the batch",
    ),
    Entry("", "Resize Upsample", pictures.resize, "each axis by itself, and the batch by 1"),
    Entry("", "GRU LSTM RNN", rules.recurrent, "steps along the first axis, rows along the second"),
    Entry(
        "", "ReverseSequence", selections.reverse, "the first steps of each row, along another axis"
    ),
    Entry("", "Shape", shapes.shape_of, "holds lengths alone; whoever uses them is looked at"),
    Entry("", "Size", shapes.size_of, "holds a length alone; whoever uses it is looked at"),
    Entry(
        ML,
        "CategoryMapper LabelEncoder",
        rules.same,
        "a value is made of the one at its place",
    ),
    Entry(
        ML,
        "Binarizer Imputer Normalizer Scaler",
        learned.table,
        "of a matrix each row by itself; anything else may be taken for one row",
    ),
    Entry(
        ML,
        "LinearClassifier LinearRegressor SVMClassifier SVMRegressor TreeEnsemble "
        "TreeEnsembleClassifier TreeEnsembleRegressor",
        learned.estimator,
        "of a matrix each row by itself; anything else may be taken for one row",
    ),
    Entry(ML, "OneHotEncoder", learned.encode, "a value is made into a list"),
    Entry(ML, "FeatureVectorizer", learned.features, "columns of a row are put beside each other"),
    Entry(ML, "ArrayFeatureExtractor", learned.extract, "columns are taken by their place"),
    Entry(MICROSOFT, "CDist", learned.distances, "each row of the left by itself"),
)

# These mix rows, or draw at random, wherever they stand, in a branch or a function too.
MIXERS = {
    ("", "Bernoulli"): "draws at random",
    ("", "Compress"): "keeps some of all rows' values",
    ("", "DynamicQuantizeLinear"): "takes its scale from the whole batch",
    ("", "EyeLike"): "makes of each row what its place says",
    ("", "Multinomial"): "draws at random",
    ("", "NegativeLogLikelihoodLoss"): "adds up over the batch",
    ("", "NonMaxSuppression"): "makes one list of all rows' boxes",
    ("", "NonZero"): "makes one list of all rows' places",
    ("", "RandomNormal"): "draws at random",
    ("", "RandomNormalLike"): "draws at random",
    ("", "RandomUniform"): "draws at random",
    ("", "RandomUniformLike"): "draws at random",
    ("", "SoftmaxCrossEntropyLoss"): "adds up over the batch",
    ("", "StringSplit"): "makes rows as long as the longest of them",
    ("", "Unique"): "makes one list of all rows' values",
    (MICROSOFT, "DynamicQuantizeLSTM"): "takes its scale from the whole batch",
    (MICROSOFT, "DynamicQuantizeMatMul"): "takes its scale from the whole batch",
}
RANDOM = frozenset(name for name, reason in MIXERS.items() if reason == "draws at random")

RULES: dict[tuple[str, str], Rule] = {
    (entry.domain, name): entry.rule for entry in ENTRIES for name in entry.names.split()
}
