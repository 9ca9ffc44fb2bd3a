#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "rlmba/device.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA side of rlmba; imports without a driver.";
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
