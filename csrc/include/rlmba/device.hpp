#pragma once

#include <string>
#include <vector>

namespace rlmba::cuda {

struct DeviceInfo {
  std::string name;
  int major;
  int minor;
  int multiprocessors;
  std::size_t memory_bytes;
};

// Devices the driver shows; empty where there is no driver. Never throws for a missing driver.
std::vector<DeviceInfo> devices();

// CUDA runtime this module carries (statically linked), as major * 1000 + minor * 10.
int runtime_version();

// Newest CUDA the installed driver supports, same encoding; 0 without a driver.
int driver_version();

}  // namespace rlmba::cuda
