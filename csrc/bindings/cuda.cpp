#include "cuda.hpp"

#include <pybind11/stl.h>

#include "rlmba/device.hpp"

namespace {

rlmba::cuda::Matrix make_matrix(std::uintptr_t data, std::int64_t rows, std::int64_t columns,
                                std::int64_t stride, int dtype) {
  return {data, rows, columns, stride, static_cast<rlmba::cuda::DType>(dtype)};
}

void register_devices(py::module_& m) {
  m.def("runtime_version", &rlmba::cuda::runtime_version);
  m.def("driver_version", &rlmba::cuda::driver_version);
  m.def("devices", [] {
    py::list out;
    for (const auto& d : rlmba::cuda::devices()) {
      py::dict item;
      item["name"] = d.name;
      item["capability"] = py::make_tuple(d.major, d.minor);
      item["multiprocessors"] = d.multiprocessors;
      item["memory_bytes"] = d.memory_bytes;
      out.append(item);
    }
    return out;
  });
}

}  // namespace

PYBIND11_MODULE(RLMBA_CUDA_MODULE, m) {
  m.doc() = "CUDA side of rlmba; imports without a driver.";
  m.attr("emulated") = bool(RLMBA_CUDA_EMULATED);
  register_devices(m);
  // Local, because one process may load both this extension and the emulated one.
  py::class_<rlmba::cuda::Matrix>(m, "Matrix", py::module_local()).def(py::init(&make_matrix));
  rlmba::bindings::register_dirichlet_variance(m);
  rlmba::bindings::register_fused_score(m);
  rlmba::bindings::register_min_distance(m);
  rlmba::bindings::register_minmax(m);
  rlmba::bindings::register_top_k(m);
}
