//! Vocabulary without behaviour: delay, forwarding, data forms.
