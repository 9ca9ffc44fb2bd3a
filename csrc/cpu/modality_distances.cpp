#include "rlmba/herding.hpp"
#include "rlmba/modality_rows.hpp"
#include "rlmba/parallel.hpp"

namespace rlmba::RLMBA_ISA {
namespace {

template <class T>
void distances_impl(const ModalityRows<T>& rows, VectorView<const std::int64_t> positions,
                    double* out) {
  const std::int64_t count = rows.rows();
  parallel_for(count, chunk_rows(rows.width()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t s = 0; s < positions.size; ++s) {
      for (std::int64_t i = begin; i < end; ++i) {
        out[s * count + i] = modality_distance(rows, i, rows, positions.data[s]);
      }
    }
  });
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
