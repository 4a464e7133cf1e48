//! XEP-0198: acknowledgements as values.
