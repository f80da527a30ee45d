-- As much of SuiteCRM's tables (7 and 8) as the queries of config/sql-suitecrm.yaml touch; ids are UUIDs.
CREATE TABLE users (
    id CHAR(36) PRIMARY KEY, user_name VARCHAR(60), first_name VARCHAR(255), last_name VARCHAR(255),
    phone_work VARCHAR(50), status VARCHAR(100), deleted TINYINT(1) DEFAULT 0
) ENGINE=InnoDB;
CREATE TABLE accounts (
    id CHAR(36) PRIMARY KEY, name VARCHAR(150), date_entered DATETIME, date_modified DATETIME, description TEXT,
    deleted TINYINT(1) DEFAULT 0, assigned_user_id CHAR(36), rating VARCHAR(100), phone_office VARCHAR(100),
    phone_alternate VARCHAR(100)
) ENGINE=InnoDB;
CREATE TABLE contacts (
    id CHAR(36) PRIMARY KEY, date_entered DATETIME, date_modified DATETIME, description TEXT,
    deleted TINYINT(1) DEFAULT 0, assigned_user_id CHAR(36), first_name VARCHAR(100), last_name VARCHAR(100),
    phone_mobile VARCHAR(100), phone_work VARCHAR(100), lead_source VARCHAR(255)
) ENGINE=InnoDB;
CREATE TABLE accounts_contacts (
    id VARCHAR(36) PRIMARY KEY, contact_id VARCHAR(36), account_id VARCHAR(36), date_modified DATETIME,
    deleted TINYINT(1) DEFAULT 0
) ENGINE=InnoDB;
CREATE TABLE leads (
    id CHAR(36) PRIMARY KEY, date_entered DATETIME, date_modified DATETIME, description TEXT,
    deleted TINYINT(1) DEFAULT 0, assigned_user_id CHAR(36), first_name VARCHAR(100), last_name VARCHAR(100),
    phone_mobile VARCHAR(100), phone_work VARCHAR(100), status VARCHAR(100), account_name VARCHAR(255)
) ENGINE=InnoDB;
CREATE TABLE cases (
    id CHAR(36) PRIMARY KEY, name VARCHAR(255), date_entered DATETIME, deleted TINYINT(1) DEFAULT 0,
    case_number INT NOT NULL AUTO_INCREMENT, status VARCHAR(100), account_id CHAR(36), UNIQUE KEY (case_number)
) ENGINE=InnoDB;
CREATE TABLE meetings (
    id CHAR(36) PRIMARY KEY, name VARCHAR(50), date_start DATETIME, deleted TINYINT(1) DEFAULT 0,
    assigned_user_id CHAR(36), status VARCHAR(100), parent_type VARCHAR(100), parent_id CHAR(36)
) ENGINE=InnoDB;
CREATE TABLE tasks (
    id CHAR(36) PRIMARY KEY, name VARCHAR(50), date_entered DATETIME, date_modified DATETIME, description TEXT,
    deleted TINYINT(1) DEFAULT 0, assigned_user_id CHAR(36), status VARCHAR(100) DEFAULT 'Not Started',
    date_due DATETIME, parent_type VARCHAR(255), parent_id CHAR(36)
) ENGINE=InnoDB;
CREATE TABLE notes (
    id CHAR(36) PRIMARY KEY, name VARCHAR(255), date_entered DATETIME, date_modified DATETIME, description TEXT,
    deleted TINYINT(1) DEFAULT 0, parent_type VARCHAR(255), parent_id CHAR(36)
) ENGINE=InnoDB;
CREATE TABLE calls (
    id CHAR(36) PRIMARY KEY, name VARCHAR(50), date_entered DATETIME, date_modified DATETIME, description TEXT,
    deleted TINYINT(1) DEFAULT 0, assigned_user_id CHAR(36), duration_hours INT, duration_minutes INT,
    date_start DATETIME, date_end DATETIME, parent_type VARCHAR(255), parent_id CHAR(36),
    status VARCHAR(100) DEFAULT 'Planned', direction VARCHAR(100)
) ENGINE=InnoDB;
INSERT INTO users VALUES ('u-1', 'anna', 'Anna', 'Krull', '21', 'Active', 0), ('u-2', 'boris', '', 'Lindt', '22', 'Inactive', 0);

CREATE USER 'suite'@'%' IDENTIFIED BY 'reads and writes';
GRANT SELECT, INSERT, UPDATE ON suitecrm.* TO 'suite'@'%';
