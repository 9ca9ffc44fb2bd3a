#pragma once

#include <cstdint>

#include "rlmba/isa.hpp"
#include "rlmba/modality_rows.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

template <class T>
struct HerdingProblem {
  ModalityRows<T> rows;
  ModalityRows<T> labeled;  // centers from the start
  double radius;
  const double* utility;  // [rows], their sum over the targets is at most 1
  // Rows with the same modalities are a group; `groups` [rows] is nullptr if there is only one.
  const std::int32_t* groups;
  const std::uint8_t* group_modalities;  // [group_count, modalities]
  std::int64_t group_count;
  VectorView<const std::int64_t> targets;     // positions of rows to cover, by group
  VectorView<const std::int64_t> candidates;  // positions of rows to pick from, by group
  std::int64_t scratch_bytes;
};

inline constexpr std::int64_t kHerdingOverflow = -1;

// herding: picks up to indices.size candidates, each the one with the largest gain: the sum over
// targets x of utility(x) max(0, k(x, j) - c(x)), where k = exp(-D / radius^2), D is the distance
// of modality_rows.hpp and c(x) the largest k of the labeled rows and previous picks. Ties go to
// the lowest position. It ends early when no gain is positive, and returns the number of picks, or
// kHerdingOverflow. Terms are rounded to multiples of 2^-51, so that sums do not depend on their
// order. All rows must be finite, and there must be fewer than 2^31. Memory is about 60 bytes per
// row, a few MiB, and scratch_bytes or what a few dozen columns need; results depend on neither it
// nor the number of threads.
//
// modality_distances: the distance from each of `positions` to every row, into out [positions.size,
// rows].
#define RLMBA_DECLARE_HERDING(T)                                                                 \
  std::int64_t herding(const HerdingProblem<T>& problem, VectorView<std::int64_t> indices,       \
                       double* gains);                                                           \
  void modality_distances(const ModalityRows<T>& rows, VectorView<const std::int64_t> positions, \
                          double* out);
RLMBA_FOR_EACH_ISA(RLMBA_DECLARE_HERDING(float) RLMBA_DECLARE_HERDING(double))
#undef RLMBA_DECLARE_HERDING

}  // namespace rlmba
