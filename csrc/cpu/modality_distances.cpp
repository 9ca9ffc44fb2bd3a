#include "rlmba/herding.hpp"
#include "rlmba/modality_rows.hpp"
#include "rlmba/parallel.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

constexpr std::int64_t kSerialValues = std::int64_t{1} << 16;

template <class T>
void distances_impl(const ModalityRows<T>& rows, VectorView<const std::int64_t> positions,
                    double* out) {
  const std::int64_t count = rows.rows();
#pragma omp parallel for schedule(static) if (count * rows.width() > kSerialValues)
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::int64_t s = 0; s < positions.size; ++s) {
      out[s * count + i] = modality_distance(rows, i, rows, positions.data[s]);
    }
  }
}

}  // namespace

#define RLMBA_DEFINE_MODALITY_DISTANCES(T)                                                       \
  void modality_distances(const ModalityRows<T>& rows, VectorView<const std::int64_t> positions, \
                          double* out) {                                                         \
    distances_impl(rows, positions, out);                                                        \
  }

RLMBA_DEFINE_MODALITY_DISTANCES(float)
RLMBA_DEFINE_MODALITY_DISTANCES(double)

}  // namespace rlmba::RLMBA_ISA
