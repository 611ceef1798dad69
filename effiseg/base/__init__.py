"""The ground floor: errors, params.yaml as checked objects, files written whole, the device."""
