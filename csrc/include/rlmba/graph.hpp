#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// The graph of rows f_i with x_i = f_i * inverse_norms[i]: affinities S_ij = w (x_i . x_j + c) off
// the diagonal, where w = 1 and c = 0, or, shifted, w = 1/2 and c = 1; A = S diag(inverse_degrees)
// + I. An inverse norm of 0 marks a row of zeros, an inverse degree of 0 an isolated one.
struct Graph {
  const double* inverse_norms;
  const double* inverse_degrees;
  bool shifted;

  RLMBA_INLINE double weight() const { return shifted ? 0.5 : 1.0; }
  // The diagonal of w (X X^T + c), which S does not have, divided by the degree.
  RLMBA_INLINE double self(std::int64_t i) const {
    const double own = inverse_norms[i] > 0 ? 1.0 : 0.0;
    return weight() * (own + (shifted ? 1.0 : 0.0)) * inverse_degrees[i];
  }
};

// graph_norms: 1/|f_i| (0 for a row of zeros), the sum of all x_i [x.cols], and whether no value is
// negative. Returns -1, or the first row that is not finite.
//
// graph_degrees: x_i . sums - x_i . x_i, the cosine degrees.
//
// normalize_rows: x_i.
//
// graph_apply: out = A values, in products of T whose slices are summed in double precision.
#define RLMBA_DECLARE_GRAPH(T)                                                                \
  std::int64_t graph_norms(MatrixView<const T> x, double* inverse_norms, double* sums,        \
                           bool* nonnegative);                                                \
  void graph_degrees(MatrixView<const T> x, const double* inverse_norms, const double* sums,  \
                     double* degrees);                                                        \
  void normalize_rows(MatrixView<const T> x, const double* inverse_norms, MatrixView<T> out); \
  void graph_apply(MatrixView<const T> x, Graph graph, MatrixView<const T> values,            \
                   MatrixView<T> out);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_GRAPH(float) RLMBA_DECLARE_GRAPH(double))
#undef RLMBA_DECLARE_GRAPH

}  // namespace rlmba
