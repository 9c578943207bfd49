-- What operators say of machines: a name instead of the host's, notes, and from now on the labels. Labels of an
-- enrolment are a beginning: identity is their only writer, an edit is a change like any other, and the mirrors follow.

ALTER TABLE identity.machines
    ADD COLUMN display_name text,
    ADD COLUMN notes text,
    ADD CONSTRAINT machines_labels_check CHECK (jsonb_typeof(labels) = 'object'),
    ADD CONSTRAINT machines_display_name_check CHECK (char_length(display_name) BETWEEN 1 AND 200),
    ADD CONSTRAINT machines_notes_check CHECK (char_length(notes) BETWEEN 1 AND 4000);
GRANT UPDATE (display_name, notes, labels) ON identity.machines TO df_identity;

ALTER TABLE metrics.machines
    ADD COLUMN display_name text,
    ADD COLUMN notes text;
