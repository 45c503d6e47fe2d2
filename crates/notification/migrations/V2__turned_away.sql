-- Whether the last try ended because the mail server refuses us, whatever the e-mail: its sender, our sign-in, what we
-- relay. A matter of settings, for `octroi verify` to tell of while the e-mail waits.
ALTER TABLE email ADD COLUMN turned_away boolean NOT NULL DEFAULT false;
