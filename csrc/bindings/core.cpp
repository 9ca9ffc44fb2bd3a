#include "core.hpp"

#include <omp.h>

#include "rlmba/isa.hpp"

namespace {

const char* isa_name(rlmba::Isa isa) {
  switch (isa) {
    case rlmba::Isa::avx512:
      return "avx512";
    case rlmba::Isa::avx2:
      return "avx2";
    default:
      return "generic";
  }
}

rlmba::Isa parse_isa(const std::string& name) {
  for (auto isa : {rlmba::Isa::generic, rlmba::Isa::avx2, rlmba::Isa::avx512}) {
    if (name == isa_name(isa)) return isa;
  }
  throw std::invalid_argument("isa: expected 'generic', 'avx2' or 'avx512', got '" + name + "'");
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "CPU kernels of rlmba; call them through rlmba.kernels.";
  m.attr("__version__") = RLMBA_VERSION;
  m.def("isa", [] { return isa_name(rlmba::active_isa()); });
  m.def("best_isa", [] { return isa_name(rlmba::best_isa()); });
  m.def("set_isa", [](const std::string& name) { rlmba::set_isa(parse_isa(name)); });
  m.def("allow_matrix_tiles", &rlmba::allow_matrix_tiles);
  m.def("num_threads", [] { return omp_get_max_threads(); });
  m.def("set_num_threads", [](int n) {
    if (n < 1) throw std::invalid_argument("num_threads: expected at least 1");
    omp_set_num_threads(n);
  });
  rlmba::bindings::register_bald_score(m);
  rlmba::bindings::register_deepfool_distance(m);
  rlmba::bindings::register_dirichlet_variance(m);
  rlmba::bindings::register_fused_score(m);
  rlmba::bindings::register_gradient_kmeans_plusplus(m);
  rlmba::bindings::register_gradient_residuals(m);
  rlmba::bindings::register_graph_propagate(m);
  rlmba::bindings::register_herding(m);
  rlmba::bindings::register_k_center(m);
  rlmba::bindings::register_kmeans(m);
  rlmba::bindings::register_min_distance(m);
  rlmba::bindings::register_minmax(m);
  rlmba::bindings::register_plackett_luce(m);
  rlmba::bindings::register_sequential_gcn(m);
  rlmba::bindings::register_shapley_contributions(m);
  rlmba::bindings::register_top_k(m);
}
