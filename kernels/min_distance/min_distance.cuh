#pragma once

#include <cstdint>

#include "rlmba/cuda/matrix.hpp"

namespace rlmba::cuda {

enum class Precision : int { kExact = 0, kTf32 = 1, kBf16 = 2 };

// Contiguous centers in the computation dtype, with `shift` [columns], which is subtracted from
// rows and centers; `half_norms` [rows], |c - shift|^2 / 2; and `largest` [1], their maximum. All
// have the centers' dtype.
struct PreparedCenters {
  Matrix values;
  std::uintptr_t shift;
  std::uintptr_t half_norms;
  std::uintptr_t largest;
};

// Writes half_norms; a center that is not finite lowers `first_bad` to bad_center + its position.
void center_norms(const PreparedCenters& centers, std::int64_t bad_center, std::uintptr_t first_bad,
                  Stream stream);

// Nearest center of each row (int64) and the squared distance to it (double). Rows are computed in
// the dtype of the centers. A row that is not finite lowers `first_bad` to first_row + its
// position.
void min_distance(const Matrix& x, const PreparedCenters& centers, Precision precision,
                  std::uintptr_t squared, std::uintptr_t labels, std::int64_t first_row,
                  std::uintptr_t first_bad, Stream stream);

}  // namespace rlmba::cuda
