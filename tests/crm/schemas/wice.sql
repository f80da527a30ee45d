-- A CRM of the WICE kind in PostgreSQL: people and companies apart, changed_at on both, nothing ever deleted.
CREATE TABLE staff (login text PRIMARY KEY, name text NOT NULL, extension text, active boolean NOT NULL DEFAULT true);
CREATE TABLE company (
    company_id serial PRIMARY KEY, name text NOT NULL, phone text, fax text, customer_no text UNIQUE, rating text,
    owner text REFERENCES staff, keywords text, remarks text, language text, web text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), deleted boolean NOT NULL DEFAULT false
);
CREATE TABLE person (
    person_id serial PRIMARY KEY, first_name text, last_name text, company_id integer REFERENCES company,
    phone text, mobile text, customer_no text UNIQUE, rating text, owner text REFERENCES staff, employer text,
    keywords text, remarks text, language text, web text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(), deleted boolean NOT NULL DEFAULT false
);
CREATE TABLE project (
    project_id serial PRIMARY KEY, kind char(1) NOT NULL, ref integer NOT NULL, title text, status text,
    started date, closed date
);
CREATE TABLE appointment (
    appointment_id serial PRIMARY KEY, kind char(1) NOT NULL, ref integer NOT NULL, at timestamp, title text,
    staff text
);
CREATE TABLE todo (
    todo_id serial PRIMARY KEY, kind char(1) NOT NULL, ref integer NOT NULL, title text, body text, due date,
    staff text, done boolean NOT NULL DEFAULT false
);
CREATE TABLE contact_history (
    history_id serial PRIMARY KEY, kind char(1), ref integer, at timestamptz NOT NULL, sort text NOT NULL,
    staff text, subject text, body text, seconds integer, number text, call_key text UNIQUE
);
INSERT INTO staff VALUES ('anna', 'Anna Krull', '21', true), ('boris', 'Boris Lindt', '22', false);

CREATE ROLE cordboard_reader LOGIN PASSWORD 'reads only';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO cordboard_reader;
CREATE ROLE cordboard LOGIN PASSWORD 'reads and writes';
GRANT SELECT ON ALL TABLES IN SCHEMA public TO cordboard;
GRANT INSERT ON company, person, contact_history, todo TO cordboard;
GRANT UPDATE ON company, person, contact_history TO cordboard;
GRANT DELETE ON contact_history TO cordboard;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO cordboard;
