#pragma once

#include <cstdint>
#include <limits>

#include "rlmba/squared_distance.hpp"
#include "rlmba/view.hpp"

namespace rlmba {

// Rows of several modalities. The distance of two rows is the mean of their squared distances in
// the modalities that both have, by weight; it is infinite if there is none.
template <class T>
struct ModalityRows {
  const MatrixView<const T>* parts;  // [modalities], all with the same number of rows
  std::int64_t modalities;
  const double* weights;        // [modalities], positive
  const double* shares;         // weights divided by their sum
  const std::uint8_t* present;  // [rows, modalities], or nullptr if every row has all

  RLMBA_INLINE std::int64_t rows() const { return parts[0].rows; }
  RLMBA_INLINE std::int64_t width() const {
    std::int64_t sum = 0;
    for (std::int64_t m = 0; m < modalities; ++m) sum += parts[m].cols;
    return sum;
  }
  RLMBA_INLINE bool has(std::int64_t row, std::int64_t m) const {
    return present == nullptr || present[row * modalities + m] != 0;
  }
};

}  // namespace rlmba

#ifdef RLMBA_ISA
namespace rlmba::RLMBA_ISA {

template <class T>
double modality_distance(const ModalityRows<T>& a, std::int64_t i, const ModalityRows<T>& b,
                         std::int64_t j) {
  const bool whole = a.present == nullptr && b.present == nullptr;
  double total = 0;
  if (!whole) {
    for (std::int64_t m = 0; m < a.modalities; ++m) {
      if (a.has(i, m) && b.has(j, m)) total += a.weights[m];
    }
    if (total == 0) return std::numeric_limits<double>::infinity();
  }
  double sum = 0;
  for (std::int64_t m = 0; m < a.modalities; ++m) {
    if (!whole && !(a.has(i, m) && b.has(j, m))) continue;
    const double share = whole ? a.shares[m] : a.weights[m] / total;
    sum += share * squared_distance(a.parts[m].row(i), b.parts[m].row(j), a.parts[m].cols);
  }
  return sum;
}

}  // namespace rlmba::RLMBA_ISA
#endif
