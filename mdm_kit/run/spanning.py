"""The course of a tensor that is a sum with factors found from inner products."""

from __future__ import annotations

import numpy as np

from mdm_kit.errors import MisfitError
from mdm_kit.maths.blocks import BLOCK
from mdm_kit.maths.fold import fold
from mdm_kit.maths.gram import gram_blocks
from mdm_kit.maths.vectors import add_vector_products, fold_vectors
from mdm_kit.methods.rules import F64s, Spanning, Vectors
from mdm_kit.planner.nodes import Fold, Write
from mdm_kit.planner.ruling import VECTORS_AT_ONCE, whole_vectors
from mdm_kit.planner.solving import too_coarse
from mdm_kit.run.course import Borrow, Course, Stage, tiles
from mdm_kit.run.executor import Bytes
from mdm_kit.run.inputs import Inputs
from mdm_kit.words import shown

_ROWS_AT_ONCE = 1 << 20
"""Elements that are read at a time where vectors lie across a tensor: a fixed number, because the
sums are joined in its steps."""


class SpanningCourse(Course):
    """Measures the inputs' inner products, then folds them with the rule's factors."""

    def __init__(self, write: Write, rule: Spanning, k: int, *, wide: bool) -> None:
        """Plan one stage: the products of whole tensors, or those of each vector."""
        self.rule = rule
        self.base = isinstance(write.root, Fold)
        self.k = k
        self.wide = wide
        self.n = write.n_elements
        self.factors: F64s = np.zeros((1, k))
        vectors = rule.vectors
        stage: Stage
        if vectors.n == 1:
            stage = _Products(self)
        elif vectors.inner == 1:
            stage = _RowProducts(self, vectors)
        else:
            stage = _ColumnProducts(self, vectors)
        super().__init__(write, [stage])

    def solve(self, triangles: F64s) -> None:
        """Find the factors from the products of each vector, (vectors, pairs)."""
        self.factors = np.full((len(triangles), self.k), np.nan)
        if not np.isfinite(triangles).all():
            return  # the writing finds what is not finite, and names it
        rows, columns = np.tril_indices(self.k)
        for first, count in tiles(len(triangles), VECTORS_AT_ONCE):
            gram = np.empty((count, self.k, self.k))
            gram[:, rows, columns] = triangles[first : first + count]
            gram[:, columns, rows] = triangles[first : first + count]
            try:
                self.factors[first : first + count] = self.rule.weights(gram)
            except ValueError as error:
                raise MisfitError(f"{shown(self.write.name)}: {error}") from None

    def fill(self, inputs: Inputs, start: int, out: Bytes, dtype: str, *, wide: bool) -> bool:
        """Write a tile's elements; see `Course.fill`."""
        vectors = self.rule.vectors
        if vectors.n > 1:
            return fold_vectors(
                inputs.stored(start, wide=wide),
                base=self.base,
                length=vectors.length,
                inner=vectors.inner,
                factors=self.factors,
                out=out.ctypes.data,
                out_dtype=dtype,
            )
        weights = [float(f) for f in self.factors[0]]
        return fold(
            inputs.addresses,
            inputs.dtypes,
            weights,
            base=self.base,
            wide=wide or too_coarse(weights, None),
            n=inputs.count,
            out=out.ctypes.data,
            out_dtype=dtype,
        )


class _Products(Stage):
    """Inner products of whole tensors, in float64 sums over fixed blocks."""

    def __init__(self, course: SpanningCourse) -> None:
        super().__init__(course.n)
        self._course = course
        self._found = np.zeros((-(-course.n // BLOCK), course.k * (course.k + 1) // 2))

    def read(self, inputs: Inputs, start: int) -> None:
        first = start // BLOCK
        out = self._found[first : first + -(-inputs.count // BLOCK)]
        gram_blocks(
            inputs.addresses,
            inputs.dtypes,
            base=self._course.base,
            known=0,
            n=inputs.count,
            wide=self._course.wide,
            exact=False,
            out=out.ctypes.data,
        )

    def settle(self, borrow: Borrow) -> None:
        self._course.solve(np.cumsum(self._found, axis=0)[-1:])  # left to right


class _RowProducts(Stage):
    """Inner products of vectors that lie one behind the other: tiles of whole ones."""

    def __init__(self, course: SpanningCourse, vectors: Vectors) -> None:
        super().__init__(course.n)
        self._course, self._vectors = course, vectors
        self._found = np.zeros((vectors.n, course.k * (course.k + 1) // 2))

    def tile(self, size: int) -> int:
        return whole_vectors(self._vectors, size)

    def read(self, inputs: Inputs, start: int) -> None:
        length = self._vectors.length
        out = self._found[start // length : (start + inputs.count) // length]
        tile = inputs.stored(start, wide=self._course.wide)
        add_vector_products(tile, base=self._course.base, shape=(len(out), length, 1), out=out)

    def settle(self, borrow: Borrow) -> None:
        self._course.solve(self._found)


class _ColumnProducts(Stage):
    """Inner products of vectors that lie across the tensor: read in order, when all is there.

    Their sums grow row by row, so that no two workers can share them.
    """

    def __init__(self, course: SpanningCourse, vectors: Vectors) -> None:
        super().__init__(0)
        self._course, self._vectors = course, vectors

    def read(self, inputs: Inputs, start: int) -> None:
        """Nothing: `settle` reads."""

    def settle(self, borrow: Borrow) -> None:
        course, vectors = self._course, self._vectors
        k, inner = course.k, vectors.inner
        found = np.zeros((vectors.n, k * (k + 1) // 2))
        step = max(1, _ROWS_AT_ONCE // inner)
        parts = (
            ((outer * vectors.length + row) * inner, count * inner)
            for outer in range(vectors.outer)
            for row, count in tiles(vectors.length, step)
        )
        for start, n in borrow.ahead(parts):
            outer = start // (vectors.length * inner)
            with borrow(start, n) as inputs:
                add_vector_products(
                    inputs.stored(start, wide=course.wide),
                    base=course.base,
                    shape=(1, n // inner, inner),
                    out=found[outer * inner : (outer + 1) * inner],
                )
        course.solve(found)
