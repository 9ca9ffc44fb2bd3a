#include "../../kernels/min_distance/min_distance.cuh"
#include "cuda.hpp"

namespace rlmba::bindings {

void register_min_distance(py::module_& m) {
  py::class_<cuda::PreparedCenters>(m, "PreparedCenters", py::module_local())
      .def(py::init([](const cuda::Matrix& values, std::uintptr_t shift, std::uintptr_t half_norms,
                       std::uintptr_t largest) {
        return cuda::PreparedCenters{values, shift, half_norms, largest};
      }));
  m.def("center_norms", &cuda::center_norms, py::call_guard<py::gil_scoped_release>());
  m.def(
      "min_distance",
      [](const cuda::Matrix& x, const cuda::PreparedCenters& centers, int precision,
         std::uintptr_t squared, std::uintptr_t labels, std::int64_t first_row,
         std::uintptr_t first_bad, cuda::Stream stream) {
        cuda::min_distance(x, centers, static_cast<cuda::Precision>(precision), squared, labels,
                           first_row, first_bad, stream);
      },
      py::call_guard<py::gil_scoped_release>());
}

}  // namespace rlmba::bindings
