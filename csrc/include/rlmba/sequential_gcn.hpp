#pragma once

#include <cstdint>

#include "rlmba/graph.hpp"
#include "rlmba/isa.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Training options: Adam on -mean(log s) over labeled rows - unlabeled_weight * mean(log (1 - s))
// over the others. A hidden unit is dropped where 16 random bits are below drop_below.
struct GcnTraining {
  std::int64_t epochs;
  std::int64_t hidden;
  std::uint32_t drop_below;
  double learning_rate;
  double weight_decay;
  double unlabeled_weight;
  std::uint64_t mask_seed;
};

// sequential_gcn: trains s = sigmoid(A h w2 + b2), h = relu(A X W1 + b1), on normalized rows x.
//
// `propagated` holds A X in its first x.rows rows and x.cols columns, padded with zeros to
// multiples of 32 rows and columns; it is overwritten. `labeled` [x.rows] is 0 or 1. `parameters`
// are W1^T [hidden, x.cols], b1, w2, b2, before and after. `scores` [x.rows] and `hidden` [x.rows,
// hidden] are those of the trained network without dropout.
//
// Sums over rows run in an order that does not depend on the number of threads; instruction sets
// (and matrix tiles) differ in rounding.
#define RLMBA_DECLARE_GCN(T)                                                        \
  void sequential_gcn(MatrixView<const T> x, MatrixView<T> propagated, Graph graph, \
                      const std::uint8_t* labeled, const GcnTraining& training,     \
                      double* parameters, T* scores, T* hidden);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_GCN(float) RLMBA_DECLARE_GCN(double))
#undef RLMBA_DECLARE_GCN

}  // namespace rlmba
