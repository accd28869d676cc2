"""Operations: flows with forms, for the people who keep campaigns going."""
