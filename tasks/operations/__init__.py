"""Operations: what people do to the stores that campaigns write. stores: which there are; retention, erasure."""
