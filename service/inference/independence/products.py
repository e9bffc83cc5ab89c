"""The rules for products of matrices; see `rules`."""

from __future__ import annotations

from service.inference.independence.values import Node, Value, broadcast, is_one

MATRIX = 2


def matmul(node: Node) -> list[Value]:
    """Follow a product of rows and a constant matrix, or of two matrices of the same row."""
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        node.unknown("has an operand left out")
    return [_multiplied(node, left, right)]


def _multiplied(node: Node, left: Value, right: Value) -> Value:
    """Return the value of a matrix product.

    Its sum runs along the last axis of the left operand and the last but one of the right operand,
    and neither may be the batch axis.  The rows may lie along the other axis of one matrix, if the
    other matrix is a constant, or along an axis before the matrices.
    """
    if left.shape is None or right.shape is None:
        node.unknown("has an operand of an unknown shape")
    if left.axis == len(left.shape) - 1 or right.axis == max(0, len(right.shape) - MATRIX):
        node.mixes("sums along the batch axis")
    if len(left.shape) < MATRIX or len(right.shape) == 0:
        node.unknown("multiplies a vector by a matrix")
    if len(right.shape) == 1:
        return Value(left.shape[:-1], left.axis)
    crossed = left.axis == len(left.shape) - MATRIX, right.axis == len(right.shape) - 1
    if left.axis is not None and right.axis is not None and any(crossed):
        node.mixes("multiplies each row by every other")
    # The axes before the last two are broadcast; the last two are the matrices.
    rank = max(len(left.shape), len(right.shape))
    stacks = [
        Value(
            (*value.shape[:-MATRIX], 1, 1),
            None if value.axis is None or value.axis >= len(value.shape) - MATRIX else value.axis,
        )
        for value in (left, right)
        if value.shape is not None
    ]
    stacked = broadcast(node, stacks)
    shape = (*(stacked.shape or ())[:-MATRIX], left.shape[-MATRIX], right.shape[-1])
    if crossed[0]:
        return Value(shape, rank - MATRIX)
    return Value(shape, rank - 1 if crossed[1] else stacked.axis)


def integer_matmul(node: Node) -> list[Value]:
    """Follow a MatMulInteger with zero points that are the same for all rows."""
    _one_scale(node, 2)
    node.constant(3)
    right = node.input(1)
    if right is not None and right.axis is not None:
        # The rows lie along the columns, so a zero point per column would be one per row.
        _one_scale(node, 3)
    return matmul(node)


def quantized_matmul(node: Node) -> list[Value]:
    """Follow a QLinearMatMul with scales and zero points that are the same for all rows."""
    node.constant()
    left, right = node.inputs[0], node.input(3)
    if left is None or right is None:
        node.unknown("has an operand left out")
    for index in (1, 2, 6, 7):
        _one_scale(node, index)
    return [_multiplied(node, left, right)]


def _one_scale(node: Node, index: int) -> None:
    """Check that an input, if there is one, is a constant with a single number."""
    node.constant(index)
    value = node.input(index)
    if value is not None and (value.shape is None or not all(map(is_one, value.shape))):
        node.unknown("has a scale or a zero point that may not be one for all rows")


def gemm(node: Node) -> list[Value]:
    """Follow a Gemm, whose third operand is broadcast over the product."""
    operands = []
    for value, name in zip(node.inputs[:2], ("transA", "transB"), strict=True):
        if value is None or value.shape is None or len(value.shape) != MATRIX:
            node.unknown("has an operand that is not a matrix")
        if node.attributes.get(name, 0):
            value = Value(  # noqa: PLW2901  the same matrix, transposed
                value.shape[::-1], None if value.axis is None else 1 - value.axis
            )
        operands.append(value)
    product = _multiplied(node, *operands)
    added = node.input(2)
    return [product if added is None else broadcast(node, [product, added])]


def fused_matmul(node: Node) -> list[Value]:
    """Follow a FusedMatMul that transposes nothing, as a MatMul."""
    if any(node.attributes.get(n, 0) for n in ("transA", "transB", "transBatchA", "transBatchB")):
        node.unknown("transposes its operands")
    return matmul(node)


def einsum(node: Node) -> list[Value]:
    """Follow an Einsum in which the letter of the batch axis stands for nothing else.

    As b in `bij,bjk->bik`: once in each operand with rows, in no constant, and once in the result.
    """
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if not arrow or "." in equation or len(parts) != len(node.inputs):
        node.unknown("has an equation that is not followed")
    batch = set()
    for part, value in zip(parts, node.inputs, strict=True):
        if value is None or value.shape is None or len(part) != len(value.shape):
            node.unknown("has operands that do not fit its equation")
        if value.axis is not None:
            batch.add((part[value.axis], value.shape[value.axis]))
    letters = {letter for letter, _ in batch}
    if len(letters) > 1:
        node.mixes("multiplies each row by every other")
    if len(batch) > 1:
        node.unknown("has operands whose rows differ in length")
    [(letter, length)] = batch
    for part, value in zip(parts, node.inputs, strict=True):
        of_rows = value is not None and value.axis is not None
        if part.count(letter) != (1 if of_rows else 0):
            node.mixes("combines the batch axis with another axis")
    if result.count(letter) != 1:
        node.mixes("sums along the batch axis")
    shape = tuple(length if each == letter else node.fresh() for each in result)
    return [Value(shape, result.index(letter))]
