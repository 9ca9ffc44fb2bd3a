#include <pybind11/stl.h>

#include "../../kernels/fused_score/fused_score.cuh"
#include "cuda.hpp"

namespace rlmba::bindings {

void register_fused_score(py::module_& m) {
  m.def(
      "column_extremes",
      [](const cuda::Matrix& x, std::uintptr_t mask, std::uintptr_t keys, std::uintptr_t first_bad,
         cuda::Stream stream) { cuda::column_extremes(x, mask, keys, first_bad, stream); },
      py::call_guard<py::gil_scoped_release>());
  m.def(
      "normalized_score",
      [](const cuda::Matrix& uncertainty, std::uintptr_t distances, std::uintptr_t present,
         const std::vector<double>& weights, double beta, std::uintptr_t keys,
         std::uintptr_t distance_keys, std::uintptr_t score, std::uintptr_t unit,
         std::uintptr_t distance_unit, cuda::Stream stream) {
        cuda::normalized_score({uncertainty, distances, present, weights, beta, keys, distance_keys,
                                score, unit, distance_unit},
                               stream);
      },
      py::call_guard<py::gil_scoped_release>());
}

}  // namespace rlmba::bindings
