//! What a representation is worth: probes, scores, chance, calibration, domain gap. Plain arithmetic on plain arrays.
