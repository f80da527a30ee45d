-- As much of vtiger's tables (7 and 8) as the queries of config/sql-vtiger.yaml touch; ids come from a table of one row.
CREATE TABLE vtiger_crmentity_seq (id INT NOT NULL) ENGINE=InnoDB;
INSERT INTO vtiger_crmentity_seq VALUES (1);
CREATE TABLE vtiger_crmentity (
    crmid INT PRIMARY KEY, smcreatorid INT NOT NULL DEFAULT 0, smownerid INT NOT NULL DEFAULT 0,
    modifiedby INT NOT NULL DEFAULT 0, setype VARCHAR(100), description MEDIUMTEXT, createdtime DATETIME NOT NULL,
    modifiedtime DATETIME NOT NULL, presence INT NOT NULL DEFAULT 1, deleted INT NOT NULL DEFAULT 0,
    label VARCHAR(255), KEY (modifiedtime)
) ENGINE=InnoDB;
CREATE TABLE vtiger_account (
    accountid INT PRIMARY KEY, account_no VARCHAR(100) NOT NULL, accountname VARCHAR(100) NOT NULL,
    phone VARCHAR(30), otherphone VARCHAR(30), rating VARCHAR(200)
) ENGINE=InnoDB;
CREATE TABLE vtiger_contactdetails (
    contactid INT PRIMARY KEY, contact_no VARCHAR(100) NOT NULL, accountid INT, firstname VARCHAR(40),
    lastname VARCHAR(80) NOT NULL, email VARCHAR(100), phone VARCHAR(50), mobile VARCHAR(50)
) ENGINE=InnoDB;
CREATE TABLE vtiger_users (
    id INT PRIMARY KEY, user_name VARCHAR(255), first_name VARCHAR(30), last_name VARCHAR(30),
    phone_crm_extension VARCHAR(100), status VARCHAR(25), deleted INT NOT NULL DEFAULT 0
) ENGINE=InnoDB;
CREATE TABLE vtiger_troubletickets (
    ticketid INT PRIMARY KEY, ticket_no VARCHAR(100) NOT NULL, contact_id INT, parent_id INT, title VARCHAR(255),
    status VARCHAR(200)
) ENGINE=InnoDB;
CREATE TABLE vtiger_activity (
    activityid INT PRIMARY KEY, subject VARCHAR(255) NOT NULL, activitytype VARCHAR(200) NOT NULL, date_start DATE,
    due_date DATE, time_start TIME, time_end TIME, status VARCHAR(200), eventstatus VARCHAR(200)
) ENGINE=InnoDB;
CREATE TABLE vtiger_cntactivityrel (contactid INT, activityid INT, PRIMARY KEY (contactid, activityid)) ENGINE=InnoDB;
CREATE TABLE vtiger_modcomments (
    modcommentsid INT PRIMARY KEY, commentcontent TEXT, related_to INT, userid INT
) ENGINE=InnoDB;
CREATE TABLE vtiger_pbxmanager (
    pbxmanagerid INT PRIMARY KEY, direction VARCHAR(10), callstatus VARCHAR(20), starttime DATETIME, endtime DATETIME,
    totalduration INT, billduration INT, recordingurl VARCHAR(200), sourceuuid VARCHAR(100), customer VARCHAR(100),
    user VARCHAR(100), customernumber VARCHAR(100), customertype VARCHAR(100), UNIQUE KEY (sourceuuid)
) ENGINE=InnoDB;
INSERT INTO vtiger_users VALUES (5, 'anna', 'Anna', 'Krull', '21', 'Active', 0), (6, 'boris', '', 'Lindt', '22', 'Inactive', 0);

CREATE USER 'cordboard_reader'@'%' IDENTIFIED BY 'reads only';
GRANT SELECT ON vtiger.* TO 'cordboard_reader'@'%';
CREATE USER 'cordboard'@'%' IDENTIFIED BY 'reads and writes';
GRANT SELECT, INSERT, UPDATE ON vtiger.* TO 'cordboard'@'%';
