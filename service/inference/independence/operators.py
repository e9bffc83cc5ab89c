"""The table of operators: the rule that follows the batch axis through each, and its reason.

The rules are in `rules` and the modules that it names.  An operator that is not in the table is
unknown, and ends a proof.  A wrong entry would let one client's rows influence another's answer, so
`test_operators.py` runs random graphs of every operator in the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from service.inference.independence import learned, pictures, products, rules, selections, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.inference.independence.values import Node, Value

    Rule = Callable[[Node], list[Value]]

# The operator sets that the table describes; ONNX Runtime takes none before the first of them.
VERSIONS = range(7, 27)
ML = "ai.onnx.ml"
MICROSOFT = "com.microsoft"


class Entry(NamedTuple):
    """Operators of one domain that follow the same rule, and the reason for it."""

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
        "element-wise: each element is computed from the elements at its own position",
    ),
    Entry(
        MICROSOFT,
        "BiasGelu FastGelu Gelu QuickGelu",
        rules.each_place,
        "element-wise: each element is computed from the elements at its own position",
    ),
    Entry("", "Clip", rules.same, "element-wise, between constants"),
    Entry("", "CastLike", rules.like, "element-wise"),
    Entry(
        "",
        "QuantizeLinear DequantizeLinear",
        rules.quantize,
        "element-wise, by constant scales",
    ),
    Entry("", "Dropout", rules.dropout, "nothing is dropped at inference"),
    Entry(
        "",
        "Softmax LogSoftmax Hardmax",
        rules.softmax,
        "combines elements along one axis; before operator set 13, along all axes after it too",
    ),
    Entry("", "LpNormalization", rules.along_last, "combines elements along one axis"),
    Entry(
        "",
        "LayerNormalization RMSNormalization",
        rules.layer_normalization,
        "combines elements along the last axes",
    ),
    Entry("", "CumSum CumProd", rules.cumulative, "combines elements along one axis"),
    Entry(
        "",
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
        "ReduceSum ReduceSumSquare",
        rules.reduce,
        "combines elements along the named axes, and along all axes if none is named",
    ),
    Entry("", "ArgMax ArgMin", rules.reduce_one, "combines elements along one axis"),
    Entry(
        "", "MeanVarianceNormalization", rules.mean_variance, "combines elements along some axes"
    ),
    Entry("", "TopK", rules.top, "combines elements along one axis"),
    Entry("", "Transpose", shapes.transpose, "the axes get another order"),
    Entry("", "Reshape", shapes.reshape, "rows stay apart if their elements stay together"),
    Entry("", "Flatten", shapes.flatten, "rows stay apart if their elements stay together"),
    Entry("", "Squeeze", shapes.squeeze, "removes axes of length 1, not the batch axis"),
    Entry("", "Unsqueeze", shapes.unsqueeze, "inserts axes of length 1"),
    Entry("", "Concat", selections.concat, "joins tensors along one axis"),
    Entry("", "Split", selections.split, "cuts one axis"),
    Entry("", "Slice", selections.cut, "cuts some axes"),
    Entry("", "Gather", selections.gather, "looks up indices along one axis"),
    Entry("", "GatherElements", selections.gather_elements, "looks up indices along one axis"),
    Entry("", "GatherND", selections.gather_nd, "looks up indices along the first axes"),
    Entry("", "Expand", shapes.expand, "repeats axes of length 1"),
    Entry("", "ConstantOfShape", shapes.fill, "makes each row from the same constant"),
    Entry("", "Tile", selections.tile, "repeats axes"),
    Entry("", "Pad", selections.pad, "extends axes"),
    Entry("", "OneHot", selections.one_hot, "encodes each element as a vector"),
    Entry("", "Trilu", selections.triangle, "selects by the indices along the last two axes"),
    Entry(
        "",
        "MatMul",
        products.matmul,
        "sums along the left operand's last axis and the right one's last but one",
    ),
    Entry(MICROSOFT, "FusedMatMul", products.fused_matmul, "as MatMul, if nothing is transposed"),
    Entry(
        "", "MatMulInteger", products.integer_matmul, "as MatMul, with one zero point for all rows"
    ),
    Entry("", "QLinearMatMul", products.quantized_matmul, "as MatMul, with one scale for all rows"),
    Entry(
        "",
        "Gemm",
        products.gemm,
        "sums along the left matrix's second axis and the right one's first",
    ),
    Entry("", "Einsum", products.einsum, "sums along the letters that are not in the result"),
    Entry(
        "",
        "Conv ConvInteger QLinearConv",
        pictures.convolution,
        "treats each entry of the first axis as a picture of its own",
    ),
    Entry(
        "",
        "AveragePool LpPool MaxPool",
        pictures.pool,
        "treats each entry of the first axis by itself",
    ),
    Entry(
        "",
        "GlobalAveragePool GlobalLpPool GlobalMaxPool",
        pictures.global_pool,
        "treats each entry of the first axis by itself",
    ),
    Entry(
        "",
        "ConvTranspose DepthToSpace SpaceToDepth",
        pictures.rows_first,
        "treats each entry of the first axis by itself",
    ),
    Entry(
        "",
        "GroupNormalization InstanceNormalization LRN",
        pictures.keeps_rows_first,
        "treats each entry of the first axis by itself",
    ),
    Entry(
        "",
        "BatchNormalization",
        pictures.batch_normalization,
        "normalizes by constant statistics; in training mode, by those of the batch",
    ),
    Entry(
        "",
        "Resize Upsample",
        pictures.resize,
        "scales each axis by itself, and the batch axis by 1",
    ),
    Entry(
        "",
        "GRU LSTM RNN",
        rules.recurrent,
        "runs along the first axis, with the rows along the second",
    ),
    Entry(
        "",
        "ReverseSequence",
        selections.reverse,
        "reverses the first steps of each row, along another axis",
    ),
    Entry("", "Shape", shapes.shape_of, "returns lengths, whose uses are followed"),
    Entry("", "Size", shapes.size_of, "returns a length, whose uses are followed"),
    Entry(
        ML,
        "CategoryMapper LabelEncoder",
        rules.same,
        "element-wise",
    ),
    Entry(
        ML,
        "Binarizer Imputer Normalizer Scaler",
        learned.table,
        "treats each row of a matrix by itself; anything else may be taken for one row",
    ),
    Entry(
        ML,
        "LinearClassifier LinearRegressor SVMClassifier SVMRegressor TreeEnsemble "
        "TreeEnsembleClassifier TreeEnsembleRegressor",
        learned.estimator,
        "treats each row of a matrix by itself; anything else may be taken for one row",
    ),
    Entry(ML, "OneHotEncoder", learned.encode, "encodes each element as a vector"),
    Entry(ML, "FeatureVectorizer", learned.features, "joins the columns of each row"),
    Entry(ML, "ArrayFeatureExtractor", learned.extract, "selects columns by their index"),
    Entry(MICROSOFT, "CDist", learned.distances, "treats each row of the left operand by itself"),
)

# Operators that mix rows or draw at random wherever they stand, also in branches and functions.
MIXERS = {
    ("", "Bernoulli"): "draws at random",
    ("", "Compress"): "selects from the values of all rows",
    ("", "DynamicQuantizeLinear"): "takes its scale from the whole batch",
    ("", "EyeLike"): "makes each row by its index in the batch",
    ("", "Multinomial"): "draws at random",
    ("", "NegativeLogLikelihoodLoss"): "sums over the batch",
    ("", "NonMaxSuppression"): "makes one list of the boxes of all rows",
    ("", "NonZero"): "makes one list of the indices of all rows",
    ("", "RandomNormal"): "draws at random",
    ("", "RandomNormalLike"): "draws at random",
    ("", "RandomUniform"): "draws at random",
    ("", "RandomUniformLike"): "draws at random",
    ("", "SoftmaxCrossEntropyLoss"): "sums over the batch",
    ("", "StringSplit"): "makes each row as long as the longest one",
    ("", "Unique"): "makes one list of the values of all rows",
    (MICROSOFT, "DynamicQuantizeLSTM"): "takes its scale from the whole batch",
    (MICROSOFT, "DynamicQuantizeMatMul"): "takes its scale from the whole batch",
}
RANDOM = frozenset(name for name, reason in MIXERS.items() if reason == "draws at random")

RULES: dict[tuple[str, str], Rule] = {
    (entry.domain, name): entry.rule for entry in ENTRIES for name in entry.names.split()
}
